"""Dropout of z and h, for M's training and for dreams (DropoutsDreamLand, arXiv 2109.08342)."""

from collections.abc import Callable
from typing import Any

import numpy as np


def dropout_mask(uniform: Any, rate: float, where: Callable = np.where) -> Any:
    """A dropout mask: 0 where `uniform` (any shape, from U[0, 1)) is below `rate`, else 1 / (1 - rate), in float32.

    `where` is NumPy's, or `tf.where` for a tensor. The mean of a mask is 1, so that M needs no scaling without one.
    """
    return where(uniform >= rate, np.float32(1 / (1 - rate)), np.float32(0))
