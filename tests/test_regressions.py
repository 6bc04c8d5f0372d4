"""Faults of earlier versions that belong to no other file."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from small_run import small

import rnn.train
import vae.train
from rnn.data import LatentDataset
from world_models import command_line, seeds, tasks
from world_models.environments import make_env
from world_models.stages import recording


def test_an_episode_of_doom_that_was_cut_has_no_end():
    """In real ViZDoom nobody dies within 12 steps."""
    config = dataclasses.replace(tasks.preset("doom", "smoke"), max_frames=12, min_frames=0)
    env = make_env(config)
    episode, _ = recording.record(env, config, 0)
    env.close()
    assert len(episode["obs"]) == 12 and int(episode["end"]) == 13
    mu = np.zeros((12, 4), np.float16)
    lengths, ends = np.array([12]), np.array([int(episode["end"])])
    latents = LatentDataset(mu, mu, episode["action"], episode["reward"], ends, lengths)
    *_, end, _, valid = latents.frames(np.arange(12)[:, None], np.zeros((12, 1, 1)))
    assert not end.any() and valid.all()


def test_v_and_m_draw_other_noise(monkeypatch):
    """Their steps draw with other keys, in the same run and step."""
    names = []
    monkeypatch.setattr(seeds, "key", lambda seed, name: names.append(name))
    vae.train.make_step(None, None, small())
    rnn.train.make_step(None, None, None, small())
    assert len(set(names)) == len(names) == 3  # of V, of M, and of M's dropout


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
