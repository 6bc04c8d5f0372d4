"""A small run with weights of its own, and an agent of invented scores, to damage."""

import dataclasses
import json

import numpy as np
import pytest

from controller.evolution import Evolution
from controller.policy import Controller
from vae.data import episode_path
from world_models import config as configs
from world_models import tasks, training
from world_models.config import UserError
from world_models.runs import agent_file, integrity, run_dir
from world_models.stages import recording
from world_models.world_model import make_rnn, make_vae

SMALL = dict(z_size=4, rnn_units=5, mixtures=2, rnn_length=9, rnn_batch=2, population=4, max_frames=20, episodes=2)


def small(task: str = "carracing", **changes) -> configs.Config:
    return dataclasses.replace(tasks.preset(task, "smoke"), **{**SMALL, **changes})


def make_run(run, task: str = "carracing", **changes) -> configs.Config:
    """A run of a small V and M with weights of their own, first frames and an agent."""
    config = small(task, **changes)
    run_dir.save(config, run)
    rng = np.random.default_rng(config.seed)
    rnn = make_rnn(config)
    for variable in rnn.trainable_variables:
        variable.assign(rng.normal(0, 0.1, variable.shape))
    training.save_weights(make_vae(config), run / "vae.weights.h5", {"task": task, "pixels": config.pixels})
    vae = integrity.digests(run, "vae")
    training.save_weights(rnn, run / "rnn.weights.h5", vae | {"task": task})
    frames = {name: rng.normal(size=(3, config.z_size)).astype(np.float32) for name in ("mu", "logvar")}
    training.save_arrays(run / "initial_z.npz", frames, vae)
    return config


def evolve(run, config) -> Evolution:
    """Three generations of a search whose scores are invented."""
    evolution = Evolution(run, config, Controller.of(config).num_params)
    for generation in range(1, 4):
        evolution.es.tell(-(evolution.es.ask() ** 2).sum(axis=1))
        evolution.log_generation(np.arange(4.0), np.full(4, 9), 1.0)
        evolution.log_evaluation(evolution.agents(), {"mean": np.array([1.0, 2.0]) * generation}, 1.0)
    evolution.save()
    return evolution


def read_best(run, config) -> dict:
    return agent_file.read_best(run / "controller", Controller.of(config).num_params)


def edit_json(path, **changes) -> None:
    """Changes values in a JSON file as a user would who knows of the digest."""
    content = json.loads(path.read_text())
    content.pop("digest", None)
    path.write_text(json.dumps(content | changes))


def flip(path, at: int) -> None:
    """Changes a byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(bytes(content))


def episode_of(run, index: int, config, frames: int = 5, **source) -> None:
    size = tasks.get(config.task).action_size
    arrays = {"obs": np.zeros((frames, 64, 64, 3), np.uint8), "action": np.zeros((frames, size), np.float32)}
    arrays |= {"reward": np.zeros(frames, np.float32), "end": np.array(frames + 1)}
    recording.write(episode_path(run, index), arrays, recording.origin(config, index) | source)


def refused_search(run, config, message: str) -> None:
    """The search is not resumed, and nothing is written."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=message):
        Evolution(run, config, Controller.of(config).num_params)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
