"""numba's compiler, which works without a cache too."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit


def compiled(function: Callable) -> Callable:
    """`function`, compiled when it is called first.

    The machine code is kept in numba's cache, next to this code or else in the user's home. Where neither can be
    written, the disk is full, or the cache is damaged, it is compiled again.
    """
    try:
        fast: Any = njit(cache=True)(function)
    except RuntimeError:  # nowhere to keep it
        return njit(function)
    cache = fast._cache  # numba has no public way to it
    load, save = cache.load_overload, cache.save_overload

    def load_or_compile(*key):
        try:
            return load(*key)
        except Exception:  # whatever unpickling damaged bytes raises
            with suppress(OSError):
                cache.flush()
            return None

    def save_if_possible(*entry):
        with suppress(OSError):
            save(*entry)

    cache.load_overload, cache.save_overload = load_or_compile, save_if_possible
    return fast
