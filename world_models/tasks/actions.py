"""What every environment asks of an action."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from world_models.config import UserError


def checked(action: ArrayLike, *shape: int) -> np.ndarray:
    """The action as an array of this shape; UserError unless it has so many numbers, all of them finite."""
    array = np.asarray(action)
    if array.size != math.prod(shape) or array.dtype.kind not in "fiu":
        raise UserError(f"action: expected numbers of shape {shape}, got {action!r}")
    if not finite(array):
        raise UserError(f"action: expected finite numbers, got {action!r}")
    return array.reshape(shape)


def one_hot(x: Any, ops: Any = np) -> Any:
    """Numbers of choices (B, A) -> 1 for each row's greatest number, the first of them if several are equal, and 0 for
    the others. NaN stays, so that a broken agent makes no choice.

    Args:
        ops: the array module, `numpy` or `keras.ops`.
    """
    chosen = ops.equal(ops.expand_dims(ops.argmax(x, axis=-1), -1), ops.arange(x.shape[-1]))
    return ops.where(ops.isnan(x), x, ops.where(chosen, 1.0, 0.0))


def finite(numbers: np.ndarray) -> bool:
    """Whether all are: of the few of an action in a tenth of the time of `np.isfinite(numbers).all()`."""
    return all(map(math.isfinite, numbers.ravel().tolist()))
