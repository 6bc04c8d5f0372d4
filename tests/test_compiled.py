"""The compiler's cache: absent or damaged, the functions are compiled all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from numba import njit

from world_models.tasks import compiled

CODE = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from world_models.tasks.compiled import compiled
@compiled
def twice(x):
    return 2 * x
print(twice(21))
"""


def run(folder: Path) -> str:
    script = folder / "script.py"
    script.write_text(CODE)
    env = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"noise", lambda b: b""])
def test_a_damaged_cache_is_compiled_again(damage, tmp_path):
    assert run(tmp_path) == "42\n"
    cached = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {path.suffix for path in cached} == {".nbi", ".nbc"}
    for path in cached:
        path.write_bytes(damage(path.read_bytes()))
    assert run(tmp_path) == "42\n"


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
