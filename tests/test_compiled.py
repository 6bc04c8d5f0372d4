"""The compiler's cache: where there is no room for it, the functions are compiled all the same."""

import pytest
from numba import njit

from world_models.tasks import compiled


def test_on_a_full_disk_functions_are_compiled(monkeypatch):
    def full(*entry):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.FunctionCache.save_overload", full)
    assert compiled.compiled(twice)(21) == 42
    with pytest.raises(OSError, match="No space"):
        njit(cache=True)(twice)(21)


def twice(x):
    return 2 * x


def test_without_a_place_for_a_cache_functions_are_compiled(monkeypatch):
    def njit(function=None, cache=False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return function

    monkeypatch.setattr(compiled, "njit", njit)
    assert compiled.compiled(len)("abc") == 3
