"""The original release's JSON files: V, M, C and the first frames, each read into a run, and taken from one.

A file is a list of arrays. The docstring of tools.convert describes them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from controller.policy import Controller
from doom_rnn.dream import Starts
from world_models import config as configs
from world_models.config import Config, UserError
from world_models.runs import weights
from world_models.runs.agent import read_best
from world_models.runs.arrays import require_finite
from world_models.runs.artifacts import M, V
from world_models.runs.run import Run
from world_models.world_model import load_rnn, load_vae, make_rnn, make_vae

# What needs TensorFlow is imported where it is used: its start-up messages must have been quieted before.

SCALE = 10_000  # of a weight in JSON (get_model_params of the release)
DECIMALS = 4  # of C's parameters, which are plain numbers there (train.py)
# By task: its name in the agents' file names; whether rnn.json has M's output layer before its LSTM.
RELEASES = {"carracing": ("carracing", True), "doom": ("doomrnn", False)}
FORGET_BIAS = 1.0  # added to the gate f when the release's LSTM runs; Keras' bias holds it


def array(label: str, value: Any, shape: tuple) -> np.ndarray:
    """A JSON value as float64 of this shape (None: any length); UserError, beginning with `label`, otherwise."""
    lengths = str(tuple("N" if n is None else n for n in shape)).replace("'", "")
    expected = f"{label}: expected finite numbers of shape {lengths}"
    try:
        found = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{expected}: {error!s:.200}") from None
    if found.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, found.shape, strict=True)):
        raise UserError(f"{expected}, found shape {found.shape}")
    with np.errstate(over="ignore"):
        if not np.isfinite(found.astype(np.float32)).all():  # as models hold it
            raise UserError(f"{expected}, found NaN, infinity or more than float32 holds")
    return found


def read(path: Path, layout: dict[str, tuple], scale: int = SCALE) -> dict[str, np.ndarray]:
    """The arrays of a file, by name, float64; UserError if they are not what they should be.

    Args:
        path: the file.
        layout: names and shapes, in the file's order, None for a length that is free.
        scale: the file holds whole numbers, so many times the values; 1: the values themselves.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, list) or len(values) != len(layout):
        found = f"{len(values)} arrays" if isinstance(values, list) else type(values).__name__
        raise UserError(f"{path}: expected a list of {len(layout)} arrays, the last {[*layout][-1]}, found {found}")
    arrays = {name: array(f"{path}: {name}", value, layout[name]) for name, value in zip(layout, values, strict=True)}
    for name, found in arrays.items():
        if scale != 1 and (odd := found[found != np.rint(found)]).size:
            raise UserError(f"{path}: {name}: expected whole numbers, {scale} times the weights, found {odd[0]:g}")
    return {name: found / scale for name, found in arrays.items()}


def scaled(arrays: dict[str, np.ndarray]) -> list:
    """Arrays as the release writes them: nested lists of round(10000 w)."""
    return [np.rint(np.asarray(values, np.float64) * SCALE).astype(np.int64).tolist() for values in arrays.values()]


def swap_gates(columns: np.ndarray) -> np.ndarray:
    """Columns (..., 4 U) of the release's gates i, j, f, o in Keras' order i, f, j, o; and back."""
    i, second, third, o = np.split(columns, 4, axis=-1)
    return np.concatenate([i, third, second, o], axis=-1)


def to_keras(kernel: np.ndarray, bias: np.ndarray, inputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The release's LSTM, kernel (I + U, 4 U) and bias (4 U,), as Keras has it: kernel (I, 4 U), recurrent kernel
    (U, 4 U) and bias (4 U,).

    The release multiplies [x, h] by one kernel, splits the result into gates i, j, f, o and adds 1 to f (TensorFlow 1's
    LayerNormBasicLSTMCell, without its layer norm). Keras has a kernel for x and one for h, gates i, f, j, o, and the 1
    in its bias.
    """
    kernel, forget = swap_gates(kernel), np.repeat([0, FORGET_BIAS, 0, 0], len(bias) // 4)
    return kernel[:inputs], kernel[inputs:], swap_gates(bias) + forget


def to_release(kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `to_keras`."""
    forget = np.repeat([0, FORGET_BIAS, 0, 0], len(bias) // 4)
    return swap_gates(np.concatenate([kernel, recurrent])), swap_gates(bias - forget)


def release_of(config: Config) -> tuple[str, bool]:
    """The row of RELEASES of the run's task; UserError if the release has none of it."""
    release = RELEASES.get(config.task)
    if release is None:
        raise UserError(f"--task {config.task}: the original release has no such task, and no files of it")
    return release


def in_order(arrays: dict, config: Config) -> dict:
    """M's arrays, head first, in the order of the task's rnn.json (carracing/rnn/rnn.py, doomrnn/doomrnn.py)."""
    names = list(arrays)
    return {name: arrays[name] for name in (names if release_of(config)[1] else names[2:] + names[:2])}


def vae_variables(vae: Any) -> dict:
    """V's variables by the release's names, in the order of vae.json."""
    layers = [*vae.convolutions, vae.mu, vae.logvar, vae.dense, *vae.transposed]
    return {f"{layer.name}/{kind}": getattr(layer, kind) for layer in layers for kind in ("kernel", "bias")}


def read_vae(path: Path, config: Config) -> Any:
    """V with the weights of a vae.json."""
    vae = make_vae(config)
    variables = vae_variables(vae)
    arrays = read(path, {name: tuple(variable.shape) for name, variable in variables.items()})
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return vae


def take_vae(run: Run) -> list:
    return scaled(vae_variables(load_vae(run)))


def read_rnn(path: Path, config: Config) -> Any:
    """M with the weights of an rnn.json."""
    rnn = make_rnn(config)
    (inputs, gates), head = rnn.cell.kernel.shape, tuple(rnn.head.kernel.shape)
    layout = {"output_w": head, "output_b": head[1:], "lstm_kernel": (inputs + rnn.units, gates), "lstm_bias": (gates,)}
    arrays = read(path, in_order(layout, config))
    lstm = to_keras(arrays["lstm_kernel"], arrays["lstm_bias"], inputs)
    for variable, values in zip((rnn.cell.kernel, rnn.cell.recurrent_kernel, rnn.cell.bias), lstm, strict=True):
        variable.assign(values)
    rnn.head.kernel.assign(arrays["output_w"])
    rnn.head.bias.assign(arrays["output_b"])
    return rnn


def take_rnn(run: Run) -> list:
    rnn = load_rnn(run)
    kernel, bias = to_release(*map(np.asarray, (rnn.cell.kernel, rnn.cell.recurrent_kernel, rnn.cell.bias)))
    head = [np.asarray(weight).copy() for weight in (rnn.head.kernel, rnn.head.bias)]
    if "reward" in rnn.heads:  # the release has no unit of rewards: they are exported in the task's own
        for weight in head:
            weight[..., rnn.heads.index("reward")] *= float(rnn.reward_scale)
    return scaled(in_order({"w": head[0], "b": head[1], "kernel": kernel, "bias": bias}, run.config))


def read_controller(path: Path, config: Config) -> dict:
    """The content of controller/best.json. What the release does not have is None."""
    layout = {f"parameters of --features {config.features}": (Controller.of(config).num_params,), "score": ()}
    parameters, score = read(path, layout, scale=1).values()
    unknown = dict.fromkeys(("generation", "std", "episodes"))
    return unknown | {"score": float(score), "parameters": parameters.tolist()}


def take_controller(run: Run) -> list:
    best = read_best(run, Controller.of(run.config).num_params)
    return [np.round(best["parameters"], DECIMALS).tolist(), float(best["score"])]


def read_initial_z(path: Path, config: Config) -> dict[str, np.ndarray]:
    """mu and logvar, float32 (N, Z)."""
    arrays = read(path, dict.fromkeys(("mu", "logvar"), (None, config.z_size)))
    array(f"{path}: logvar", arrays["logvar"], arrays["mu"].shape)
    with np.errstate(over="ignore"):
        require_finite(path, {"exp(logvar / 2)": np.exp(np.float32(arrays["logvar"] / 2))})
    return {name: values.astype(np.float32) for name, values in arrays.items()}


def write_initial_z(arrays: dict[str, np.ndarray], run: Run) -> None:
    with run.write("initial_z.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, **arrays)


def take_initial_z(run: Run) -> list:
    starts = Starts(run)
    return scaled({"mu": starts.mu, "logvar": starts.logvar})


class Part(NamedTuple):
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


# V and M stand before C: a row of the manifest names what its file is made from.
PARTS = {
    "vae": Part(V, "V: vae.json", read_vae, lambda vae, run: weights.save(vae, run, V), take_vae),
    "rnn": Part(M, "M: rnn.json", read_rnn, lambda rnn, run: weights.save(rnn, run, M), take_rnn),
    "controller": Part(
        "controller/best.json", "C: TASK.cma.16.64.best.json", read_controller,
        lambda best, run: run.write_text("controller/best.json", json.dumps(best) + "\n"), take_controller,
    ),
    "initial_z": Part("initial_z.npz", "initial_z.json", read_initial_z, write_initial_z, take_initial_z),
}  # fmt: skip


def json_name(name: str, config: Config) -> str:
    """A part's file name, as the release would call it: C's says the episodes a candidate and the population."""
    if name != "controller":
        return f"{name}.json"
    episodes = configs.rollouts_at(config.rollouts, config.generations)
    return f"{release_of(config)[0]}.cma.{episodes}.{config.population}.best.json"
