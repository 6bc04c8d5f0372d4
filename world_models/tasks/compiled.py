"""numba's compiler, which works without a cache too."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit


def compiled(function: Callable) -> Callable:
    """`function`, compiled when it is called first. Its machine code is kept in numba's cache, next to this code or
    else in the user's home, where it can be written and the disk has room."""
    try:
        fast: Any = njit(cache=True)(function)
    except RuntimeError:  # nowhere to keep it
        return njit(function)
    save = fast._cache.save_overload  # numba has no public way to it

    def save_if_possible(*entry):
        with suppress(OSError):
            save(*entry)

    fast._cache.save_overload = save_if_possible
    return fast
