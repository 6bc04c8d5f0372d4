"""Small runs for tests, made without play and without training."""

import json
from pathlib import Path

import numpy as np

from controller.evolution import Evolution
from controller.policy import Controller
from world_models import tasks
from world_models.config import Config
from world_models.runs import episodes, weights
from world_models.runs.begin import begin
from world_models.runs.run import Run
from world_models.world_model import make_rnn, make_vae

SMALL = dict(z_size=4, rnn_units=5, mixtures=2, rnn_length=9, rnn_batch=2, population=4, max_frames=20, episodes=2)


def small(task: str = "carracing", **changes) -> Config:
    """The settings of a small run of the smoke preset."""
    return tasks.replace(tasks.preset(task, "smoke"), **SMALL | changes)


def new_run(path: Path, task: str = "carracing", **changes) -> Run:
    """A small run that holds config.json and manifest.json."""
    return begin(path, {"task": task, "preset": "smoke"} | SMALL | changes)


def make_run(path: Path, task: str = "carracing", **changes) -> Run:
    """A small run with V, M and first frames, all with random numbers of its seed."""
    run = new_run(path, task, **changes)
    rng = np.random.default_rng(run.config.seed)
    vae, rnn = make_vae(run.config), make_rnn(run.config)
    for variable in rnn.trainable_variables:
        variable.assign(rng.normal(0, 0.1, variable.shape))
    weights.save(vae, run, "vae.weights.h5")
    weights.save(rnn, run, "rnn.weights.h5")
    frames = {name: rng.normal(size=(3, run.config.z_size)).astype(np.float32) for name in ("mu", "logvar")}
    with run.write("initial_z.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, **frames)
    return run


def size_of(config: Config) -> int:
    """The parameters of the run's controller."""
    return Controller.of(config).num_params


def evolve(run: Run) -> Evolution:
    """Three generations of a search whose scores are invented; the third is kept."""
    evolution = Evolution(run, size_of(run.config))
    for generation in range(1, 4):
        candidates = evolution.search.ask()
        scores = -(candidates**2).sum(axis=1, keepdims=True)
        evolution.learn(candidates, np.zeros(scores.shape, int), scores, np.full(scores.shape, 9))
        evolution.evaluated(evolution.agents(), {"mean": np.array([1.0, 2.0]) * generation})
        evolution.save(1.0)
    return evolution


def add_agent(run: Run, parameters: np.ndarray | None = None, folder: str = "controller") -> None:
    """A kept agent, by default with random parameters."""
    if parameters is None:
        parameters = np.random.default_rng(1).normal(0, 0.2, size_of(run.config))
    best = {"generation": 1, "score": 0.0, "std": 1.0, "episodes": 2, "parameters": np.round(parameters, 4).tolist()}
    run.write_text(f"{folder}/best.json", json.dumps(best))


def episode_of(run: Run, index: int, frames: int = 5, **source) -> Path:
    """Writes a recorded episode of black frames in which nothing happens."""
    size = tasks.get(run.config.task).action_size
    arrays = {"obs": np.zeros((frames, 64, 64, 3), np.uint8), "action": np.zeros((frames, size), np.float32)}
    arrays |= {"reward": np.zeros(frames, np.float32), "end": np.array(frames + 1)}
    path = episodes.path_of(run, index)
    episodes.write(path, arrays, episodes.source_of(run.config, index) | source)
    return path


def trust(path: Path, *names: str) -> None:
    """Gives changed files of a run folder the rows of what they hold now, as someone who forges a run would."""
    run = Run(path)
    for name in names or [name for name, row in run.manifest.rows.items() if "sha256" in row]:
        with run.write(name) as tmp:
            tmp.write_bytes((path / name).read_bytes())


def edit_json(path: Path, **changes) -> None:
    """Changes values in a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def flip(path: Path, at: int) -> None:
    """Changes a byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(bytes(content))


def contents(folder: Path) -> dict[Path, bytes]:
    """What the files of a folder hold."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
