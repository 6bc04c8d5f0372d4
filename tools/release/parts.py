"""V, M, C and the first frames: each read from the release's JSON, and taken from a run for it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.policy import Controller
from tools.release.json_format import array, read, read_scaled, scaled
from tools.release.layouts import HEAD_FIRST, rnn_orders, to_keras, to_release
from world_models import config as configs
from world_models import tasks
from world_models.config import Config, UserError
from world_models.runs import weights
from world_models.runs.agent import read_best
from world_models.runs.arrays import FLOATS, UNREADABLE, open_npz, require_finite
from world_models.runs.run import Run
from world_models.tasks.task import Release

# What needs TensorFlow is imported where it is used: its start-up messages must have been quieted before.

DECIMALS = 4  # of C's parameters, which are plain numbers there (train.py)


def release_of(config: Config) -> Release:
    """How the release stores the models of the run's task; UserError if it has none of it."""
    release = tasks.get(config.task).release
    if release is None:
        raise UserError(f"--task {config.task}: the original release has no such task, and no files of it")
    return release


def vae_variables(vae) -> dict:
    """V's variables by the release's names, in the order of vae.json."""
    layers = [*vae.convolutions, vae.mu, vae.logvar, vae.dense, *vae.transposed]
    return {f"{layer.name}/{kind}": getattr(layer, kind) for layer in layers for kind in ("kernel", "bias")}


def read_vae(path: Path, config: Config):
    """V with the weights of a vae.json."""
    from world_models.world_model import make_vae

    vae = make_vae(config)
    variables = vae_variables(vae)
    arrays = read_scaled(path, {name: tuple(variable.shape) for name, variable in variables.items()})
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return vae


def take_vae(run: Run) -> list:
    from world_models.world_model import load_vae

    variables = vae_variables(load_vae(run))
    return scaled(run / "vae.weights.h5", {name: np.asarray(variable) for name, variable in variables.items()})


def read_rnn(path: Path, config: Config):
    """M with the weights of an rnn.json."""
    from world_models.world_model import make_rnn

    rnn = make_rnn(config)
    inputs, outputs = rnn.cell.kernel.shape[0], rnn.head.kernel.shape[1]
    shapes = {
        "output_w": (rnn.units, outputs),
        "output_b": (outputs,),
        "lstm_kernel": (inputs + rnn.units, 4 * rnn.units),
        "lstm_bias": (4 * rnn.units,),
    }
    arrays = read_scaled(path, *({name: shapes[name] for name in order} for order in rnn_orders(release_of(config))))
    kernel, recurrent, bias = to_keras(arrays["lstm_kernel"], arrays["lstm_bias"], inputs)
    rnn.cell.kernel.assign(kernel)
    rnn.cell.recurrent_kernel.assign(recurrent)
    rnn.cell.bias.assign(bias)
    rnn.head.kernel.assign(arrays["output_w"])
    rnn.head.bias.assign(arrays["output_b"])
    return rnn


def take_rnn(run: Run) -> list:
    from world_models.world_model import load_rnn

    rnn = load_rnn(run)
    lstm = to_release(*map(np.asarray, (rnn.cell.kernel, rnn.cell.recurrent_kernel, rnn.cell.bias)))
    head = [np.asarray(weight).copy() for weight in (rnn.head.kernel, rnn.head.bias)]
    if "reward" in rnn.heads:  # the release has no unit of rewards: they are exported in the task's own
        for weight in head:
            weight[..., rnn.heads.index("reward")] *= float(rnn.reward_scale)
    arrays = dict(zip(HEAD_FIRST, (*head, *lstm), strict=True))
    return scaled(run / "rnn.weights.h5", {name: arrays[name] for name in rnn_orders(release_of(run.config))[0]})


def read_controller(path: Path, config: Config) -> dict:
    """The content of controller/best.json. What the release does not have is None."""
    layout = {f"parameters of --features {config.features}": (Controller.of(config).num_params,), "score": ()}
    parameters, score = read(path, layout).values()
    return {
        "generation": None,
        "score": float(score),
        "std": None,
        "episodes": None,
        "parameters": parameters.tolist(),
    }


def take_controller(run: Run) -> list:
    best = read_best(run, Controller.of(run.config).num_params)
    return [np.round(best["parameters"], DECIMALS).tolist(), float(best["score"])]


def read_initial_z(path: Path, config: Config) -> dict[str, np.ndarray]:
    """mu and logvar, float32 (N, Z)."""
    arrays = read_scaled(path, dict.fromkeys(("mu", "logvar"), (None, config.z_size)))
    array(f"{path}: logvar", arrays["logvar"], arrays["mu"].shape)
    with np.errstate(over="ignore"):
        require_finite(path, {"exp(logvar / 2)": np.exp(np.float32(arrays["logvar"] / 2))})
    return {name: values.astype(np.float32) for name, values in arrays.items()}


def take_initial_z(run: Run) -> list:
    path, config = run.need("initial_z.npz"), run.config
    try:
        names = ("mu", "logvar")
        with open_npz(path, dict.fromkeys(names, (FLOATS, (None, config.z_size)))) as file:
            arrays = {name: file[name] for name in names}
    except UNREADABLE as error:
        raise UserError(f"{path} does not hold mu and logvar: {error}") from None
    for name, values in arrays.items():
        array(f"{path}: {name}", values, (len(arrays["mu"]), config.z_size))
    return scaled(path, arrays)


@dataclass(frozen=True)
class Part:
    """One of the release's files, and its place in a run.

    Attributes:
        place: the file in the run folder.
        text: help of its flag.
        read: read(JSON file, config) -> what `write` takes.
        write: write(that, run) writes the file of the run.
        take: take(run) -> the list that JSON gets.
    """

    place: str
    text: str
    read: Callable
    write: Callable
    take: Callable


def write_best(best: dict, run: Run) -> None:
    run.write_text("controller/best.json", json.dumps(best) + "\n")


def write_initial_z(arrays: dict[str, np.ndarray], run: Run) -> None:
    with run.write("initial_z.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, **arrays)


def write_vae(vae, run: Run) -> None:
    weights.save(vae, run, "vae.weights.h5")


def write_rnn(rnn, run: Run) -> None:
    weights.save(rnn, run, "rnn.weights.h5")


# V and M stand before C: a row of the manifest names what its file is made from.
PARTS = {
    "vae": Part("vae.weights.h5", "V: vae.json", read_vae, write_vae, take_vae),
    "rnn": Part("rnn.weights.h5", "M: rnn.json", read_rnn, write_rnn, take_rnn),
    "controller": Part(
        "controller/best.json", "C: TASK.cma.16.64.best.json", read_controller, write_best, take_controller
    ),
    "initial_z": Part("initial_z.npz", "initial_z.json", read_initial_z, write_initial_z, take_initial_z),
}


def json_name(name: str, config: Config) -> str:
    """A part's file name, as the release would call it: C's says the episodes a candidate and the population."""
    if name != "controller":
        return f"{name}.json"
    episodes = configs.rollouts_at(config.rollouts, config.generations)
    return f"{release_of(config).name}.cma.{episodes}.{config.population}.best.json"
