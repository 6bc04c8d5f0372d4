"""The training loop: its files, its checkpoints, and what it does at a non-finite loss."""

import dataclasses
import json
import shutil
import signal
import sys
import time

import h5py
import numpy as np
import pytest
import tensorflow as tf

import rnn.train
import train_rnn
import train_vae
import vae.train
from world_models import signals, training
from world_models.config import UserError
from world_models.runs import command_log, run_dir, storage
from world_models.world_model import load_rnn, load_vae


class Weight:
    """A model of one number, which a step moves by a tenth of each batch."""

    def __init__(self):
        self.value = tf.Variable(0.0)
        self.variables = [self.value]

    def save_weights(self, path) -> None:
        with h5py.File(path, "w") as file:
            file["value"] = float(self.value)

    def step(self, number, batch) -> dict:
        self.value.assign_add(0.1 * batch)
        return {"loss": self.value}


def saved(run) -> float:
    with h5py.File(run / "toy.weights.h5") as file:
        return float(file["value"][()])


def batches(first: int):
    for number in range(first, 100):
        yield (float(number),)


def fit(run, steps: int, model: Weight, source=batches) -> None:
    training.fit(run, "toy", model, [], model.step, source, steps, every=2)


def test_fit_writes_weights_and_curves(tmp_path):
    model = Weight()
    fit(tmp_path, 5, model)
    assert saved(tmp_path) == pytest.approx(0.1 * (0 + 1 + 2 + 3 + 4))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert lines[0]["loss"] == pytest.approx((0.0 + 0.1) / 2)  # the mean since the last line


def test_fit_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)

    def cut(first: int):
        for (number,) in batches(first):
            if number == 5:
                raise KeyboardInterrupt
            yield (number,)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, 8, Weight(), cut)
    assert not (tmp_path / "toy.weights.h5").exists() and (tmp_path / "toy.checkpoint.npz").exists()
    fit(tmp_path, 8, Weight())
    assert saved(tmp_path) == pytest.approx(0.1 * sum(range(8)))
    assert not (tmp_path / "toy.checkpoint.npz").exists()
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8]


def test_a_signal_ends_fit_with_a_checkpoint_and_the_curve_is_the_same(tmp_path, monkeypatch):
    for name in ("stopped", "straight"):
        (tmp_path / name).mkdir()

    def with_signal(first: int):
        for (number,) in batches(first):
            if number == 4:  # in the middle of two lines of the curve
                monkeypatch.setattr(signals, "_note", [(signal.SIGTERM, 0.0)])
            yield (number,)

    with pytest.raises(signals.Stopped, match=r"stopped by SIGTERM: step 5 of 8 is saved in .*toy\.checkpoint\.npz"):
        fit(tmp_path / "stopped", 8, Weight(), with_signal)
    monkeypatch.setattr(signals, "_note", [])
    for name in ("stopped", "straight"):
        fit(tmp_path / name, 8, Weight())
    assert saved(tmp_path / "stopped") == saved(tmp_path / "straight")
    curves = [
        [(line["step"], line["loss"]) for line in storage.read_lines(tmp_path / name / "metrics.jsonl")]
        for name in ("stopped", "straight")
    ]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("script", "module", "load"), [(train_vae, vae.train, load_vae), (train_rnn, rnn.train, load_rnn)]
)
def test_a_resumed_training_ends_at_the_same_weights(script, module, load, car_run, tmp_path, monkeypatch):
    """V and M themselves, stopped after a checkpoint: weights, Adam's moments, M's state, data, noise, masks."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    config = dataclasses.replace(run_dir.load(car_run), vae_epochs=2, vae_batch=20, rnn_steps=24, rnn_dropout=0.1)
    name = script.__name__.removeprefix("train_")

    def trained(run, stop: int | None = None):
        with monkeypatch.context() as patch:
            if stop:
                patch.setattr(module, "make_step", stopping(module.make_step, stop))
            script.train(run, config)
        return load(run, config).get_weights()

    runs = [tmp_path / "whole", tmp_path / "stopped"]
    for run in runs:
        shutil.copytree(car_run, run)
        run_dir.save(config, run)
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


def test_a_non_finite_loss_stops_training_and_names_the_step(tmp_path):
    def poisoned(first: int):
        for (number,) in batches(first):
            yield (np.nan if number == 3 else number,)

    with pytest.raises(UserError, match=r"toy: loss nan at step 4; training stopped"):
        fit(tmp_path, 8, Weight(), poisoned)
    assert not (tmp_path / "toy.weights.h5").exists()


def test_a_checkpoint_beyond_the_last_step_makes_no_weights(tmp_path):
    training.save_arrays(tmp_path / "toy.checkpoint.npz", {"step": np.array(9), "000": np.zeros((), np.float32)})
    with pytest.raises(UserError, match=r"toy\.checkpoint\.npz does not fit this model: step 9 of 8; delete it"):
        fit(tmp_path, 8, Weight())
    assert not (tmp_path / "toy.weights.h5").exists()


def test_a_checkpoint_of_another_model_is_named(tmp_path):
    training.save_arrays(tmp_path / "toy.checkpoint.npz", {"step": np.array(3), "000": np.zeros((2, 2))})
    with pytest.raises(UserError, match=r"toy\.checkpoint\.npz does not fit this model"):
        fit(tmp_path, 8, Weight())


def test_a_command_is_logged_while_it_runs_and_when_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(command_log, "BEAT", 0.05)
    monkeypatch.setattr("sys.argv", ["train_vae.py", "--run", "runs/a b"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # a script, whatever runs the tests
    with command_log.log_command(tmp_path):
        deadline = time.monotonic() + 60
        while not (line := command_log.read(tmp_path)[0])["seconds"]:  # until the next beat
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert line["command"] == "train_vae.py --run 'runs/a b'" and line["ranks"] == 1
        assert not line["ended"]
    (line,) = command_log.read(tmp_path)
    assert line["ended"]


def test_a_command_that_fails_is_logged_as_not_ended(tmp_path):
    with pytest.raises(ZeroDivisionError), command_log.log_command(tmp_path):
        raise ZeroDivisionError
    assert not command_log.read(tmp_path)[0]["ended"]


def test_training_takes_one_gpu_and_its_memory_as_needed(monkeypatch):
    """There is none here: what TensorFlow is told when it has two, and when it has none."""
    calls = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: calls.append((devices, kind)))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: calls.append((gpu, on)))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    training.use_one_gpu()
    assert calls == []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["first", "second"])
    training.use_one_gpu()
    assert calls == [(["first"], "GPU"), ("first", True)]
