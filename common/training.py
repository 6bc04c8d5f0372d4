"""The loop that V and M are trained with: progress, curves, checkpoints, and a stop at a non-finite loss."""

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from common.progress import bar as progress_bar
from common.run_dir import atomic_write, read_lines, write_lines
from common.tracking import Curves
from config import UserError

CHECKPOINT_SECONDS = 120


def quiet_tensorflow() -> None:
    """Imports TensorFlow without its start-up messages, which it writes past every log level of its own."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # an error that matters is raised as well
    # Keras would import matplotlib for plots that are not used here: half a second, 30 MB a rank.
    unseen = "matplotlib" not in sys.modules
    if unseen:
        sys.modules["matplotlib"] = None
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()  # says what it finds of GPUs, too
    finally:
        if unseen:
            del sys.modules["matplotlib"]
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def hold_memory() -> None:
    """Sets glibc to keep freed memory. A step of M frees and allocates gigabytes, and faulting their pages in
    again takes as long as the arithmetic. Does nothing where there is no glibc."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)


def make_optimizer(rate, variables):
    """Keras' Adam with TensorFlow 1's epsilon, 1e-8; `rate` a number or a schedule."""
    import keras

    optimizer = keras.optimizers.Adam(rate, epsilon=1e-8)
    optimizer.build(variables)
    return optimizer


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_write(path) as tmp, open(tmp, "wb") as file:
        np.savez(file, **arrays)


class Checkpoint:
    """A training's state in one file: variables (weights, optimizer, ...) and step, as arrays."""

    def __init__(self, path: Path, variables: list):
        self.path, self.variables = path, variables

    def save(self, step: int) -> None:
        arrays = {f"{k:03d}": np.asarray(variable) for k, variable in enumerate(self.variables)}
        save_arrays(self.path, {"step": np.array(step), **arrays})

    def restore(self) -> int:
        """The step to go on from; 0 if there is no checkpoint. UserError if it does not fit the model."""
        if not self.path.exists():
            return 0
        try:
            with np.load(self.path) as file:
                arrays = [file[f"{k:03d}"] for k in range(len(self.variables))]
                step = int(file["step"])
            for variable, array in zip(self.variables, arrays, strict=True):
                variable.assign(array)
        except Exception as error:
            raise UserError(f"{self.path} does not fit this model: {error}; delete it to train anew") from None
        return step


def fit(
    run: Path,
    name: str,
    model,
    state: list,
    step: Callable[..., dict],
    batches: Callable[[int], Iterator],
    steps: int,
    every: int = 20,
) -> None:
    """Trains `model` for `steps` steps, going on from the last checkpoint, and writes its weights.

    Args:
        run: the run folder. Gets NAME.weights.h5, metrics.jsonl (a line every `every` steps: model, step,
            seconds, and the mean of each loss since the last), tensorboard/NAME, and while it trains
            NAME.checkpoint.npz.
        name: "vae" or "rnn".
        state: variables beside the model's that a resumed training needs: the optimizer's, a carried state.
        step: does one step: step(number, *batch) -> losses by name, scalars.
        batches: batches(first) yields the batches from step number `first` on.
        steps: how many steps make a whole training.
    """
    import tensorflow as tf

    checkpoint = Checkpoint(run / f"{name}.checkpoint.npz", [*model.variables, *state])
    done = checkpoint.restore()
    metrics = run / "metrics.jsonl"
    trim(metrics, name, done)
    curves = Curves(run, name)
    sums: dict[str, float] = {}
    start = saved = time.monotonic()
    bar = progress_bar(total=steps, initial=done, desc=f"training {name}", unit="step")
    source = batches(done)
    for number in range(done, steps):
        losses = step(tf.constant(number, tf.int64), *next(source))
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + float(value)
        if not np.isfinite(sum(sums.values())):
            shown = ", ".join(f"{key} {float(value)}" for key, value in losses.items())
            raise UserError(
                f"{name}: {shown} at step {number + 1}; training stopped, nothing saved since its last checkpoint"
            )
        bar.update()
        if (number + 1) % every == 0 or number + 1 == steps:
            count = (number % every) + 1
            means = {key: value / count for key, value in sums.items()}
            sums = {}
            bar.set_postfix({key: f"{value:.3f}" for key, value in means.items()})
            line = {"model": name, "step": number + 1, "seconds": round(time.monotonic() - start, 1), **means}
            with open(metrics, "a") as file:
                file.write(json.dumps(line) + "\n")
            curves.write(number + 1, means)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                checkpoint.save(number + 1)
                saved = time.monotonic()
    bar.close()
    curves.close()
    save_weights(model, run / f"{name}.weights.h5")
    checkpoint.path.unlink(missing_ok=True)


def trim(metrics: Path, name: str, done: int) -> None:
    """Drops the lines of steps after `done`, which a resumed training writes again."""
    if not metrics.exists():
        return
    write_lines(metrics, [line for line in read_lines(metrics) if line["model"] != name or line["step"] <= done])


def save_weights(model, path: Path) -> None:
    with atomic_write(path) as tmp:
        # Keras insists on the ending.
        written = tmp.with_name(tmp.name + ".weights.h5")
        model.save_weights(written)
        os.replace(written, tmp)


def load_weights(model, path: Path, expected: str, command: str) -> None:
    """Fills `model` from a weights file; UserError with what was expected and found, and the `command` that makes
    the file, if it does not fit."""
    try:
        model.load_weights(path)
    except Exception:
        raise UserError(
            f"{path} does not hold {expected}: expected {model.count_params():,} numbers, found {held(path)}; "
            f"move it away, and make it with: {command}"
        ) from None


def held(path: Path) -> str:
    """How many numbers a weights file holds, in words."""
    import h5py

    sizes = []
    try:
        with h5py.File(path) as file:
            file.visititems(lambda _, item: sizes.append(item.size) if isinstance(item, h5py.Dataset) else None)
    except OSError as error:
        return f"no weights ({error})"
    return f"{sum(sizes):,}"
