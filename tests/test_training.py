"""The training loop: its files, its checkpoints, and its end at a loss that is not finite."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_run import new_run

import rnn.train
import train_rnn
import train_vae
import vae.train
from world_models import training
from world_models.config import UserError
from world_models.runs import files
from world_models.runs.run import Run
from world_models.world_model import load_rnn, load_vae


class Weight:
    """A model of one number, which a step moves by a tenth of each batch."""

    def __init__(self):
        self.value = tf.Variable(0.0, name="value")
        self.variables = [self.value]

    def save_weights(self, file) -> None:
        file.write(json.dumps(float(self.value)).encode())

    def step(self, number, batch) -> dict:
        self.value.assign_add(0.1 * batch)
        return {"loss": self.value}


def saved(run: Run) -> float:
    return json.loads(run.need("vae.weights.h5").read_bytes())


def curve(run: Run) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in files.read_lines(run / "metrics.jsonl")]


def batches(first: int):
    for number in range(first, 100):
        yield (float(number),)


def interrupted_at(at: int):
    """Batches of which number `at` raises KeyboardInterrupt."""

    def source(first: int):
        for (number,) in batches(first):
            if number == at:
                raise KeyboardInterrupt
            yield (number,)

    return source


def fit(run: Run, steps: int, source=batches) -> None:
    model = Weight()
    training.fit(run, "vae", model, [], model.step, source, steps, every=2)


def test_fit_writes_weights_and_curves(tmp_path):
    run = new_run(tmp_path / "run")
    fit(run, 5)
    assert saved(run) == pytest.approx(0.1 * (0 + 1 + 2 + 3 + 4))
    points = curve(run)
    assert [step for step, _ in points] == [2, 4, 5]
    assert points[0][1] == pytest.approx((0.0 + 0.1) / 2)  # the mean since the last line


def test_an_interrupted_training_resumes_from_its_checkpoint_to_the_same_curve(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    whole, stopped = new_run(tmp_path / "whole"), new_run(tmp_path / "stopped")
    fit(whole, 8)
    for at in (3, 5):  # in the middle of two lines of the curve
        with pytest.raises(KeyboardInterrupt):
            fit(stopped, 8, interrupted_at(at))
    assert not (stopped / "vae.weights.h5").exists() and stopped.is_current("vae.checkpoint.npz")
    fit(Run(stopped.path), 8)
    assert saved(Run(stopped.path)) == saved(whole) and curve(stopped) == curve(whole)
    assert not (stopped / "vae.checkpoint.npz").exists()


def test_a_modified_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    run = new_run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit(run, 8, interrupted_at(5))
    shutil.copyfile(run / "config.json", run / "vae.checkpoint.npz")
    with pytest.raises(UserError, match=r"vae\.checkpoint\.npz was modified"):
        fit(run, 8)


@pytest.mark.parametrize(
    ("script", "module", "load"), [(train_vae, vae.train, load_vae), (train_rnn, rnn.train, load_rnn)]
)
def test_a_resumed_training_ends_at_the_same_weights(script, module, load, car_run, tmp_path, monkeypatch):
    """V and M, interrupted after a checkpoint: weights, Adam's moments, M's state, data, noise and masks."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    changes = dict(vae_epochs=2, vae_batch=20, rnn_steps=24, rnn_dropout=0.1)
    name = script.__name__.removeprefix("train_")

    def trained(run, stop: int | None = None):
        with monkeypatch.context() as patch:
            if stop:
                patch.setattr(module, "make_step", stopping(module.make_step, stop))
            script.train(run)
        return load(run).get_weights()

    runs = [Run(shutil.copytree(car_run, tmp_path / name)) for name in ("whole", "stopped")]
    for run in runs:
        run.save_config(dataclasses.replace(run.config, **changes))
        shutil.rmtree(run / "controller", ignore_errors=True)
        for made in ("rnn.weights.h5", *(["vae.weights.h5", "series.npz"] if name == "vae" else [])):
            (run / made).unlink()
    whole = trained(runs[0])
    with pytest.raises(KeyboardInterrupt):
        trained(runs[1], stop=22)
    assert (runs[1] / f"{name}.checkpoint.npz").exists() and not (runs[1] / f"{name}.weights.h5").exists()
    for one, other in zip(whole, trained(runs[1]), strict=True):
        np.testing.assert_array_equal(one, other)


def stopping(make_step, at: int):
    """As `make_step`, of steps the one numbered `at` of which is interrupted."""

    def make(*args):
        step = make_step(*args)

        def interrupted(number, *batch):
            if int(number) == at:
                raise KeyboardInterrupt
            return step(number, *batch)

        return interrupted

    return make


def test_a_non_finite_loss_ends_training_and_names_the_step(tmp_path):
    def poisoned(first: int):
        for (number,) in batches(first):
            yield (np.nan if number == 3 else number,)

    run = new_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"vae: loss nan at step 4; the training ends"):
        fit(run, 8, poisoned)
    assert not (run / "vae.weights.h5").exists()


@pytest.mark.parametrize(
    ("step", "shape", "message"), [(9, (), "step 9 of 8"), (3, (2, 2), "000"), (-1, (), "step -1 of 8")]
)
def test_a_checkpoint_of_another_training_is_refused(step, shape, message, tmp_path):
    run = new_run(tmp_path / "run")
    with run.write("vae.checkpoint.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, **{"step": np.array(step), "000": np.zeros(shape, np.float32)})
    with pytest.raises(UserError, match=rf"vae\.checkpoint\.npz does not fit this model .*{message}.*; delete it"):
        fit(run, 8)
    assert not (run / "vae.weights.h5").exists()


def test_training_takes_one_gpu_and_its_memory_as_needed(monkeypatch):
    """TensorFlow's calls with two GPUs, and with none."""
    calls = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: calls.append((devices, kind)))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: calls.append((gpu, on)))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    training.use_machine()
    assert calls == []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["first", "second"])
    training.use_machine()
    assert calls == [(["first"], "GPU"), ("first", True)]
