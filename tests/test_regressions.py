"""Faults of earlier versions that belong to no other file."""

import contextlib
import dataclasses
import subprocess
import sys

import cma
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from controller.cmaes import CMAES
from small_run import small

from controller.evolution import Evolution
from rnn.data import LatentDataset
from world_models import command_line, tasks
from world_models.environments import make_env
from world_models.stages import recording


def test_a_file_of_signals_does_not_steer_the_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cma_signals.in").write_text("{'timeout': 0, 'maxiter': 1, 'CMA_on': 0}\n")
    es = CMAES(3, 0.1, 4, np.random.default_rng(0))
    for _ in range(3):
        es.tell(-(es.ask() ** 2).sum(axis=1))
        es.search.stop()
    assert es.search.opts["CMA_on"] and es.search.opts["maxiter"] > 1


def test_what_a_checkpoint_cannot_hold_is_an_error(tmp_path):
    es = CMAES(3, 0.1, 4, np.random.default_rng(0))
    es.tell(-(es.ask() ** 2).sum(axis=1))
    es.search.sm.unknown_type = {"a": 1}  # as a later pycma might keep
    with pytest.raises(TypeError, match=rf"pycma {cma.__version__} keeps sm\.unknown_type"):
        es.save(tmp_path / "state.npz", {})


def test_what_is_not_the_checkpoints_fault_is_not_called_so(tmp_path, monkeypatch):
    """A pycma that keeps something new, and a bug of the program's own: the user must not delete the search."""
    path = tmp_path / "state.npz"
    CMAES(3, 0.1, 4, np.random.default_rng(0)).save(path, {})
    newer = CMAES(3, 0.1, 4, np.random.default_rng(0))
    newer.search.sm.unknown_type = {"a": 1}
    with pytest.raises(TypeError, match=rf"pycma {cma.__version__} keeps sm\.unknown_type"):
        newer.restore(path)

    def bug(self):
        raise NameError("a bug")

    monkeypatch.setattr(CMAES, "ask", bug)
    with pytest.raises(NameError, match="a bug"):
        CMAES(3, 0.1, 4, np.random.default_rng(0)).restore(path)


def test_of_equal_means_the_later_is_kept(tmp_path):
    evolution = Evolution(tmp_path, small(), 9)
    for generation in range(1, 4):
        evolution.log_generation(np.arange(4.0), np.full(4, 60), 1.5)
        evolution.log_evaluation({"mean": np.full(9, generation / 10)}, {"mean": np.array([2100.0, 2100.0])}, 0.5)
    assert evolution.best["generation"] == 3 and evolution.best["parameters"] == [0.3] * 9


def test_a_doom_episode_that_was_cut_is_no_death():
    """Real ViZDoom, in which nobody dies within 12 steps."""
    config = dataclasses.replace(tasks.preset("doom", "smoke"), max_frames=12, min_frames=0)
    env = make_env(config)
    episode = recording.record(env, config, 0)
    env.close()
    assert len(episode["obs"]) == 12 and int(episode["end"]) == 13
    mu = np.zeros((12, 4), np.float16)
    lengths, ends = np.array([12]), np.array([int(episode["end"])])
    latents = LatentDataset(mu, mu, episode["action"], episode["reward"], ends, lengths)
    *_, end, _, valid = latents.frames(np.arange(12)[:, None], np.zeros((12, 1, 1)))
    assert not end.any() and valid.all()


def test_v_and_m_draw_other_noise(monkeypatch):
    """The keys with which their steps draw, of the same run and step."""
    import rnn.train
    import vae.train

    seen = []

    def draw(shape, seed):
        seen.append(int(seed[0]))
        raise InterruptedError

    monkeypatch.setattr(tf.random, "stateless_normal", draw)
    config = small()
    steps = [vae.train.make_step(None, None, config), rnn.train.make_step(None, None, None, config)]
    frames, zeros = np.zeros((1, 64, 64, 3), np.uint8), np.zeros((2, 1, 4), np.float32)
    for step, batch in zip(steps, ((frames,), (True, zeros, zeros, *[zeros] * 5)), strict=True):
        with contextlib.suppress(Exception):  # TensorFlow's own, around that of `draw`
            step(tf.constant(0, tf.int64), *batch)
    assert len(set(seen)) == len(seen) == 2


def test_flags_are_not_abbreviated(capsys):
    with pytest.raises(SystemExit):
        command_line.parser("x").parse_args(["--run", "r", "--generation", "3"])
    assert "unrecognized arguments: --generation 3" in capsys.readouterr().err


def test_keras_may_still_draw():
    """TensorFlow's start takes no module from those that import it later."""
    code = (
        "from world_models.training import quiet_tensorflow; quiet_tensorflow(); import keras.src.visualization as v; "
    )
    code += "from keras.src.visualization import plot_image_gallery as p; assert p.plt is not None"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("settings", "ranks"),
    [
        (("run", "CORES=32", "GIGABYTES=60"), 16),
        (("run", "CORES=32", "GIGABYTES=5", "PRESET=paper"), 5),
        (("run", "CORES=32", "GIGABYTES=0"), 1),
        (("run", "CORES=2", "GIGABYTES=60"), 2),
        (("evaluate", "CORES=128", "GIGABYTES=300"), 100),
    ],
)
def test_make_starts_no_more_ranks_than_there_is_work_and_memory_for(settings, ranks):
    done = subprocess.run(["make", "-n", *settings], cwd=ROOT, capture_output=True, text=True)
    assert f"mpirun -n {ranks} " in done.stdout
