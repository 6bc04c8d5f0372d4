"""The loop that trains V and M: progress, curves, checkpoints, and an end at a loss that is not finite."""

import ctypes
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from world_models import limits
from world_models.config import UserError
from world_models.progress import bar as progress_bar
from world_models.runs import files, weights
from world_models.runs.arrays import open_npz, reading, require_finite
from world_models.runs.run import Run
from world_models.tracking import Curves

CHECKPOINT_SECONDS = 60
SUM = "sum of "  # begins the name of a loss in a checkpoint


def quiet_tensorflow() -> None:
    """Imports TensorFlow without its messages. Called where a command knows that it needs TensorFlow."""
    import world_models.quiet  # noqa: F401  # here: ranks that record random episodes do not load it


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


def use_machine() -> None:
    """The first GPU for this process, if there is one, and of its memory only what is needed, as it is needed. As many
    threads as a container or a batch job leaves cores; without such a limit TensorFlow chooses."""
    import tensorflow as tf  # here: ranks that record random episodes do not load it

    if gpus := tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices(gpus[:1], "GPU")
        tf.config.experimental.set_memory_growth(gpus[0], True)
    if limits.cores() < len(os.sched_getaffinity(0)):
        tf.config.threading.set_intra_op_parallelism_threads(limits.cores())


def use_one_core() -> None:
    """One TensorFlow thread and no GPU for this process: ranks share the cores, sums keep their order, and each rank
    would claim the whole card for a batch that does not fill it."""
    import tensorflow as tf  # here: ranks that record random episodes do not load it

    try:
        if tf.config.get_visible_devices("GPU"):
            tf.config.set_visible_devices([], "GPU")
        if tf.config.threading.get_intra_op_parallelism_threads() != 1:
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise UserError(f"TensorFlow's threads and devices were fixed before: {error}") from None


def make_optimizer(rate: Any, variables: list) -> Any:
    """Keras' Adam with TensorFlow 1's epsilon, 1e-8; `rate` a number or a schedule."""
    import keras  # here: ranks that record random episodes do not load it

    optimizer = keras.optimizers.Adam(rate, epsilon=1e-8)
    optimizer.build(variables)
    return optimizer


class Checkpoint:
    """The state of a training in one file: variables (weights, optimizer, ...), the step, and the sums of the losses
    since the last line of metrics.jsonl."""

    def __init__(self, run: Run, name: str, variables: list):
        self.run, self.name, self.variables = run, name, variables
        self.seconds = 0.0  # that earlier commands have spent on the training

    def save(self, step: int, sums: dict[str, float]) -> None:
        arrays = {f"{k:03d}": np.asarray(variable) for k, variable in enumerate(self.variables)}
        require_finite(f"{self.name}, step {step}", arrays)
        arrays |= {"step": np.array(step)} | {f"{SUM}{name}": np.array(value) for name, value in sums.items()}
        with self.run.write(self.name, seconds=self.seconds) as tmp, open(tmp, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def restore(self, steps: float = math.inf) -> tuple[int, dict[str, float]]:
        """The step to go on from, and the sums; (0, {}) if there is no checkpoint.

        UserError, with the variables as they were, if the checkpoint is damaged, or not of this training of `steps`
        steps.
        """
        if not self.run.is_current(self.name):
            return 0, {}
        path = self.run / self.name
        own = {f"{k:03d}": np.asarray(variable) for k, variable in enumerate(self.variables)}
        kinds = {name: (array.dtype.name, array.shape) for name, array in own.items()}
        with reading(path, "does not fit this model", "delete it to train from the beginning"):
            with open_npz(path, kinds | {"step": ("int64", ())}) as file:
                arrays, step = {name: file[name] for name in kinds}, int(file["step"])
                sums = {name.removeprefix(SUM): float(file[name]) for name in file.files if name.startswith(SUM)}
            if not 0 <= step <= steps:  # with no step left to do, its weights would be taken for trained ones
                raise ValueError(f"step {step} of {steps}")
        require_finite(path, arrays | {name: np.array(value) for name, value in sums.items()})
        for variable, array in zip(self.variables, arrays.values(), strict=True):
            variable.assign(array)
        self.seconds = self.run.seconds(self.name)
        return step, sums


def fit(
    run: Run,
    name: str,
    model: Any,
    state: list,
    step: Callable[..., dict],
    batches: Callable[[int], Iterator],
    steps: int,
    every: int = 20,
) -> None:
    """Trains `model` for `steps` steps from the last checkpoint on, and writes its weights.

    The run gets NAME.weights.h5, metrics.jsonl (a line every `every` steps: model, step, seconds, and the mean of each
    loss since the last line), tensorboard/NAME, and during the training NAME.checkpoint.npz.

    Args:
        state: further variables that a resumed training needs: the optimizer's, a carried state.
        step: one step, step(number, *batch) -> losses by name, scalars.
        batches: batches(first) yields the batches from step number `first` on.
    """
    import tensorflow as tf  # here: ranks that record random episodes do not load it

    checkpoint = Checkpoint(run, f"{name}.checkpoint.npz", [*model.variables, *state])
    done, sums = checkpoint.restore(steps)
    size = sum(4 * int(np.prod(variable.shape)) for variable in checkpoint.variables)
    # The old checkpoint stays until the new one is complete. The third part is for the weights.
    files.require_room(run / checkpoint.name, size, times=3)
    metrics = run / "metrics.jsonl"
    # A resumed training writes the lines after its checkpoint again.
    lines = files.read_lines(metrics)
    files.write_lines(metrics, [line for line in lines if line["model"] != name or line["step"] <= done])
    curves = Curves(run, name, done)
    start = saved = time.monotonic()
    bar = progress_bar(total=steps, initial=done, desc=f"training {name}", unit="step")
    for number, batch in zip(range(done, steps), batches(done), strict=False):
        losses = {key: float(value) for key, value in step(tf.constant(number, tf.int64), *batch).items()}
        if not all(map(math.isfinite, losses.values())):
            shown = ", ".join(f"{key} {value}" for key, value in losses.items())
            raise UserError(f"{name}: {shown} at step {number + 1}; the training ends; its last checkpoint stays")
        sums = {key: sums.get(key, 0.0) + value for key, value in losses.items()}
        bar.update()
        if (number + 1) % every == 0 or number + 1 == steps:
            count = (number % every) + 1
            means = {key: value / count for key, value in sums.items()}
            sums = {}
            bar.set_postfix({key: f"{value:.3f}" for key, value in means.items()})
            line = {"model": name, "step": number + 1, "seconds": round(time.monotonic() - start, 1), **means}
            files.append_line(metrics, line)
            curves.write(number + 1, means)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            checkpoint.save(number + 1, sums)
            saved = time.monotonic()
    bar.close()
    curves.close()
    weights.save(model, run, f"{name}.weights.h5", seconds=checkpoint.seconds)
    (run / checkpoint.name).unlink(missing_ok=True)
