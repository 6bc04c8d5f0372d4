"""The loop that V and M are trained with: progress, curves, checkpoints, and a stop at a non-finite loss."""

import ctypes
import io
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from world_models import signals
from world_models.config import UserError
from world_models.progress import bar as progress_bar
from world_models.runs import integrity
from world_models.runs.arrays import RECORD, open_npz
from world_models.runs.integrity import UNREADABLE, require_finite
from world_models.runs.storage import append_line, atomic_write, read_lines, require_room, write_lines
from world_models.tracking import Curves

CHECKPOINT_SECONDS = 120
SUM = "sum of "  # begins the name of a loss in a checkpoint


def quiet_tensorflow() -> None:
    """Imports TensorFlow and looks for GPUs, without the messages of either."""
    from world_models.quiet import silent, tf

    with silent():
        tf.config.list_physical_devices()


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


def use_one_gpu() -> None:
    """The first GPU for this process, if there is one, and of its memory only what is needed, as it is needed."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.set_visible_devices(gpus[:1], "GPU")
        tf.config.experimental.set_memory_growth(gpus[0], True)


def make_optimizer(rate, variables):
    """Keras' Adam with TensorFlow 1's epsilon, 1e-8; `rate` a number or a schedule."""
    import keras

    optimizer = keras.optimizers.Adam(rate, epsilon=1e-8)
    optimizer.build(variables)
    return optimizer


def save_arrays(path: Path, arrays: dict[str, np.ndarray], made_from: dict | None = None) -> None:
    """Writes an npz, with a record of what it was made from unless that is None."""
    record = {} if made_from is None else {"made_from": integrity.record_array(made_from)}
    with atomic_write(path) as tmp, open(tmp, "wb") as file:
        np.savez(file, **arrays, **record)


def named(variables: list) -> dict[str, np.ndarray]:
    """The values of variables, by name."""
    return {getattr(variable, "path", variable.name): np.asarray(variable) for variable in variables}


class Checkpoint:
    """A training's state in one file: variables (weights, optimizer, ...), step, and the sums of losses since the last
    line of metrics.jsonl, as arrays.

    Args:
        path: the file.
        variables: what it holds.
        run: the run folder.
        models: what the training learns from, as of `integrity.check_made_from`.
        settings: what tells this training from others, by name.
    """

    def __init__(self, path: Path, variables: list, run: Path, models: tuple[str, ...] = (), **settings):
        self.path, self.variables, self.run, self.models, self.settings = path, variables, run, models, settings

    def save(self, step: int, sums: dict[str, float]) -> None:
        arrays = {f"{k:03d}": np.asarray(variable) for k, variable in enumerate(self.variables)}
        require_finite(f"{self.path.name}, step {step}", arrays)
        arrays |= {f"{SUM}{name}": np.array(value) for name, value in sums.items()}
        made_from = integrity.digests(self.run, *self.models) | self.settings
        save_arrays(self.path, {"step": np.array(step), **arrays}, made_from)

    def restore(self, steps: float = math.inf) -> tuple[int, dict[str, float]]:
        """The step to go on from, and the sums; (0, {}) if there is no checkpoint.

        UserError, with the variables as they were, if it is damaged, or not of this training, of `steps` steps.
        """
        if not self.path.exists():
            return 0, {}
        own = [np.asarray(variable) for variable in self.variables]
        kinds = {f"{k:03d}": (array.dtype.name, array.shape) for k, array in enumerate(own)}
        try:
            with open_npz(self.path) as file:
                kinds |= dict.fromkeys((name for name in file.files if name.startswith(SUM)), ("float64", ()))
            with open_npz(self.path, kinds | {"step": ("int64", ())} | RECORD) as file:
                arrays = {f"{k:03d}": file[f"{k:03d}"] for k in range(len(self.variables))}
                sums = {name.removeprefix(SUM): float(file[name]) for name in file.files if name.startswith(SUM)}
                step, made_from = int(file["step"]), integrity.read_record(file)
                count = len(file.files) - len(sums)
            if count > len(arrays) + 2 or step < 0:
                raise ValueError("its arrays are not those of this model")
            if step > steps:  # with none left to do, what it holds would be taken for a trained model
                raise ValueError(f"step {step} of {steps}")
        except UNREADABLE as error:
            raise UserError(f"{self.path} does not fit this model: {error}; delete it to train anew") from None
        integrity.check_made_from(self.path, made_from, self.run, self.models, **self.settings)
        require_finite(self.path, arrays | sums)
        for variable, array in zip(self.variables, arrays.values(), strict=True):
            variable.assign(array)
        return step, sums


def fit(
    run: Path,
    name: str,
    model,
    state: list,
    step: Callable[..., dict],
    batches: Callable[[int], Iterator],
    steps: int,
    every: int = 20,
    models: tuple[str, ...] = (),
    **settings,
) -> None:
    """Trains `model` for `steps` steps, going on from the last checkpoint, and writes its weights.

    A signal ends it after a step, with a checkpoint.

    Args:
        run: the run folder. Gets NAME.weights.h5, metrics.jsonl (a line every `every` steps: model, step,
            seconds, and the mean of each loss since the last), tensorboard/NAME, and while it trains
            NAME.checkpoint.npz.
        name: "vae" or "rnn".
        state: variables beside the model's that a resumed training needs: the optimizer's, a carried state.
        step: does one step: step(number, *batch) -> losses by name, scalars.
        batches: batches(first) yields the batches from step number `first` on.
        steps: how many steps make a whole training.
        models, settings: what the weights are made from, as of `integrity.check_made_from`.
    """
    import tensorflow as tf

    checkpoint = Checkpoint(run / f"{name}.checkpoint.npz", [*model.variables, *state], run, models, **settings)
    done, sums = checkpoint.restore(steps)
    size = sum(4 * int(np.prod(variable.shape)) for variable in checkpoint.variables)
    require_room(checkpoint.path, size, times=3)  # the old one stays until the new one is complete; and the weights
    metrics = run / "metrics.jsonl"
    trim(metrics, name, done)
    curves = Curves(run, name)
    start = saved = time.monotonic()
    bar = progress_bar(total=steps, initial=done, desc=f"training {name}", unit="step")
    source, batch = batches(done), None
    for number in range(done, steps):
        batch = next(source)
        losses = step(tf.constant(number, tf.int64), *batch)
        require_finite_losses(name, losses, number + 1)
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + float(value)
        bar.update()
        if (number + 1) % every == 0 or number + 1 == steps:
            count = (number % every) + 1
            means = {key: value / count for key, value in sums.items()}
            sums = {}
            bar.set_postfix({key: f"{value:.3f}" for key, value in means.items()})
            line = {"model": name, "step": number + 1, "seconds": round(time.monotonic() - start, 1), **means}
            append_line(metrics, line)
            curves.write(number + 1, means)
        signal = signals.received()
        if signal or time.monotonic() - saved > CHECKPOINT_SECONDS:
            checkpoint.save(number + 1, sums)
            saved = time.monotonic()
        if signal:
            raise signals.Stopped(signal, f"step {number + 1} of {steps} is saved in {checkpoint.path}")
    bar.close()
    curves.close()
    if batch is not None:
        # Of the last update no step has seen the loss.
        weights = [np.asarray(variable) for variable in model.variables]
        require_finite_losses(name, step(tf.constant(steps, tf.int64), *batch), steps + 1)
        for variable, values in zip(model.variables, weights, strict=True):
            variable.assign(values)
    save_weights(model, run / f"{name}.weights.h5", integrity.digests(run, *models) | settings)
    checkpoint.path.unlink(missing_ok=True)


def require_finite_losses(name: str, losses: dict, number: int) -> None:
    """UserError if a loss of step `number` is NaN or infinite."""
    if not all(np.isfinite(float(value)) for value in losses.values()):
        shown = ", ".join(f"{key} {float(value)}" for key, value in losses.items())
        raise UserError(f"{name}: {shown} at step {number}; training stopped, nothing saved since its last checkpoint")


def trim(metrics: Path, name: str, done: int) -> None:
    """Drops the lines of steps after `done`, which a resumed training writes again."""
    if not metrics.exists():
        return
    write_lines(metrics, [line for line in read_lines(metrics) if line["model"] != name or line["step"] <= done])


def save_weights(model, path: Path, made_from: dict | None = None) -> None:
    """Writes a model's weights with their digest and what they were made from; UserError if they are not finite."""
    require_finite(path, named(model.variables))
    with atomic_write(path) as tmp:
        tmp.write_bytes(weights_file(model, made_from or {}))


class Memory(io.BytesIO):
    """A file in memory, whose name ends as Keras insists."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def weights_file(model, made_from: dict) -> bytes:
    """What a weights file holds. Made in memory: on a full disk HDF5 ends the process with a segmentation fault."""
    memory = Memory()
    model.save_weights(memory)
    integrity.stamp_weights(memory, made_from)
    return memory.getvalue()


def load_weights(model, path: Path, expected: str, command: str) -> dict | None:
    """Fills `model` from a weights file; returns what the file was made from, None if it does not say.

    UserError if it does not fit, with what was `expected`, what was found, and the `command` that makes the file; or
    if it is damaged, or holds NaN or infinity.
    """
    found = held(path)
    try:
        if found != f"{model.count_params():,}":
            raise ValueError
        made_from = integrity.check_weights(path)
        model.load_weights(path)
    except UNREADABLE:
        raise UserError(
            f"{path} does not hold {expected}: expected {model.count_params():,} numbers, found {found}; "
            f"move it away, and make it with: {command}"
        ) from None
    require_finite(path, named(model.variables))
    return made_from


def held(path: Path) -> str:
    """How many numbers a weights file holds, in words."""
    try:
        with integrity.open_weights(path) as file:
            return f"{sum(integrity.weights_sizes(file).values()):,}"
    except UNREADABLE as error:
        return f"no weights ({error})"
