"""A search's checkpoint: its state and its history in one npz, which is tried before the search goes on from it."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import numpy as np

from controller.search import Search
from world_models.config import UserError
from world_models.runs import files
from world_models.runs.arrays import UNREADABLE, open_npz

# What a search raises when it goes on from an invalid state. Other exceptions are faults of the program.
INVALID_STATE_ERRORS = (*UNREADABLE, ArithmeticError, AttributeError, AssertionError, MemoryError, UnpicklingError)
HEADER = 1 << 26  # bytes of a checkpoint's header: some 60,000 generations
NUMBERS = ("seconds", "mean", "min", "max", "std", "sigma", "mean_steps")  # of a line of the history


def save(search: Search, path: Path, extra: dict) -> None:
    """Writes a search's state, and `extra`, which JSON can hold, to one npz."""
    header = json.dumps({"random": search.rng.bit_generator.state, "extra": extra})
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, header=np.array(header), **search.state())


def restore(search: Search, path: Path, check: Callable[[dict], object] = lambda extra: None) -> dict:
    """Reads what `save` wrote into a search that was made with the same arguments; returns `extra`. UserError if the
    file is damaged or of another search, or if `check(extra)` raises one of INVALID_STATE_ERRORS."""
    room = 4 * sum(array.nbytes for array in search.state().values()) + 64 * search.population * search.size + HEADER
    try:
        with open_npz(path, limit=room) as file:
            header = json.loads(str(file["header"]))
            arrays = {name: file[name] for name in file.files if name != "header"}
        for trial in (True, False):
            search.set_state(arrays)
            search.rng.bit_generator.state = header["random"]
            if trial:
                try_two_generations(search)
        check(header["extra"])
    except INVALID_STATE_ERRORS as error:
        raise UserError(
            f"{path} is not a checkpoint of this search: {error!r:.200}; delete it to restart the search"
        ) from None
    return header["extra"]


def try_two_generations(search: Search) -> None:
    """Raises one of INVALID_STATE_ERRORS if the search cannot go on."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for _ in range(2):
            asked = search.ask()
            fits = asked.shape == (search.population, search.size) and asked.dtype == np.float64
            if not fits or not np.isfinite(asked).all():
                raise ValueError(f"candidates of shape {asked.shape} and type {asked.dtype}, or not finite")
            search.tell(-np.sum((asked - asked[0]) ** 2, axis=1))
    if not (np.isfinite(search.best()).all() and 0 < search.spread() < math.inf):
        raise ValueError("the spread must be finite and positive")


def require_history(extra: dict, size: int) -> None:
    """One of INVALID_STATE_ERRORS unless `extra` is an evolution's, of agents with `size` parameters."""
    history, best = extra["history"], extra["best"]
    np.array(extra["means"], float).reshape(-1, size)
    numbers = [extra["seconds"], *(line[name] for line in history for name in NUMBERS)]
    numbers += [*map(int, extra["tracks"]), *extra["tracks"].values()]
    if best is not None:
        np.reshape(best["parameters"], size)
        numbers += [*best["parameters"], *(best[name] for name in ("score", "std", "episodes"))]
    complete = [line["generation"] for line in history] == list(range(1, len(history) + 1))
    if not (complete and all(map(files.is_number, numbers))):
        raise ValueError("expected every generation from the first on, in finite numbers")
    if not all(files.is_evaluation(line["evaluation"]) for line in history):
        raise ValueError("an evaluation is not of numbers")
