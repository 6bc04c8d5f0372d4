"""What every environment asks of an action."""

import numpy as np

from config import UserError


def checked(action, *shape: int) -> np.ndarray:
    """The action as an array of this shape; UserError unless it has so many numbers, all of them finite."""
    array = np.asarray(action)
    if array.size != np.prod(shape) or array.dtype.kind not in "fiu":
        raise UserError(f"action: expected numbers of shape {shape}, got {action!r}")
    if not np.isfinite(array).all():
        raise UserError(f"action: expected finite numbers, got {action!r}")
    return array.reshape(shape)
