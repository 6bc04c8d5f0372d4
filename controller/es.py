"""Searches as ask / tell / best, maximising: what they have in common.

A search's whole state is written and read as arrays and JSON, so that a resumed search is the same search. CMA-ES is in
cmaes.py, the others in optimizers.py.
"""

import copy
import json
import math
import warnings
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from world_models.config import UserError
from world_models.runs.arrays import NUMBERS, Kind, open_npz
from world_models.runs.integrity import UNREADABLE, check_made_from, require_finite
from world_models.runs.files import atomic_write

# What a search raises when it goes on from numbers that make no sense; other exceptions are faults of the program.
NONSENSE = (*UNREADABLE, ArithmeticError, AttributeError, AssertionError)
HEADER = 1 << 26  # bytes of a checkpoint's header: some 60,000 generations


class Optimizer(ABC):
    """A search for the vector with the highest score.

    Args:
        size: parameters of C.
        sigma: first step size.
        population: candidates a generation.
        rng: the source of all its randomness.
        x0: (size,), where it starts; by default 0.
    """

    def __init__(
        self, size: int, sigma: float, population: int, rng: np.random.Generator, x0: np.ndarray | None = None
    ):
        self.size, self.sigma, self.population, self.rng = size, sigma, population, rng
        self.center = np.zeros(size) if x0 is None else np.array(x0, np.float64)
        if self.center.shape != (size,):
            raise ValueError(f"x0: expected shape ({size},), got {self.center.shape}")

    @abstractmethod
    def ask(self) -> np.ndarray:
        """The next candidates, (population, size)."""

    def tell(self, scores: np.ndarray) -> None:
        """Takes the candidates' scores (population,), higher is better. UserError if one is not finite."""
        require_finite("the candidates", {f"the score of candidate {k}": score for k, score in enumerate(scores)})
        self._update(np.asarray(scores, np.float64))

    @abstractmethod
    def _update(self, scores: np.ndarray) -> None:
        """Moves the search by the finite scores (population,) of the candidates asked last."""

    @abstractmethod
    def best(self) -> np.ndarray:
        """The vector that the search stands at, (size,): the agent that is scored and kept."""

    @abstractmethod
    def spread(self) -> float:
        """Root mean square over dimensions of the candidates' standard deviation: "sigma" in the curves."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """(size,), a vector drawn as the candidates asked last, but by `rng`: it depends on nothing that was drawn
        before. For searches that are over: no generation may follow."""

    @abstractmethod
    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        """Everything that decides the next generations but the random generator: arrays, and what JSON can hold."""

    @abstractmethod
    def set_state(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        """Takes back what `state` returned, in an object made with the same arguments."""

    def kinds(self) -> dict[str, Kind]:
        """What the arrays of a state are, as far as that is known of a search made with the same arguments. Single
        numbers may become one for each dimension, as the scaling of a diagonal covariance does."""
        arrays, _ = self.state()
        return {name: (NUMBERS, array.shape) for name, array in arrays.items() if array.ndim}

    def room(self) -> int:
        """Bytes that a checkpoint of a search made with the same arguments may hold: several times what this one holds
        and asks for, since some arrays are made on the way, and the header, with a line a generation."""
        arrays, _ = self.state()
        asked = 8 * self.population * self.size
        return 4 * (sum(array.nbytes for array in arrays.values()) + asked) + HEADER

    def require_fit(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        """ValueError unless this is the state of a search made with the same arguments."""
        own, own_small = self.state()
        require_shapes(arrays, own)
        if lacking := own_small.keys() - small.keys():
            raise ValueError(f"it lacks {min(lacking)}")

    def save(self, path: Path, extra: dict) -> None:
        """Writes the state, and `extra` with it, to one npz."""
        arrays, small = self.state()
        header = {**small, "random": self.rng.bit_generator.state, "extra": extra}
        with atomic_write(path) as tmp, open(tmp, "wb") as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)

    def restore(self, path: Path, run: Path | None = None, models: tuple[str, ...] = (), **settings) -> dict:
        """Reads what `save` wrote into this object, made with the same arguments; returns `extra`.

        UserError if the file is damaged, or not of this search: of another kind, size or population, or, by the record
        `extra["made_from"]`, made from other models than those in `run`, or with other settings (as of
        `integrity.check_made_from`).
        """
        self.state()  # a pycma that keeps what no checkpoint can hold fails here: that is not the file's fault
        try:
            with open_npz(path, self.kinds(), self.room()) as file:
                header = json.loads(str(file["header"]), parse_constant=constant)
                arrays = {name: file[name] for name in file.files if name != "header"}
            extra, random = header["extra"], header["random"]
            made_from = extra.get("made_from")
            self.require_fit(arrays, header)
        except (*UNREADABLE, AttributeError) as error:
            raise not_of_this_search(path, error) from None
        if run is not None:
            check_made_from(path, made_from, run, models, **settings)
        require_finite(path, arrays)
        before = self.rng.bit_generator.state
        try:
            self._try(arrays, header, random)
        except NONSENSE as error:
            self.rng.bit_generator.state = before
            raise not_of_this_search(path, error) from None
        self.set_state(arrays, header)
        self.rng.bit_generator.state = random
        return extra

    def _try(self, arrays: dict[str, np.ndarray], small: dict, random: dict) -> None:
        """Plays a generation from a state in a copy of this object: what no search can go on from raises here, and not
        when the checkpoint's files have been written again."""
        trial = copy.deepcopy(self)
        for search in (self, trial):  # pycma's copy draws from the original's generator
            search.rng.bit_generator.state = random
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            trial.set_state(*copy.deepcopy((arrays, small)))  # the trial changes them
            for _ in range(2):
                asked = trial.ask()
                if asked.shape != (self.population, self.size) or not np.isfinite(asked).all():
                    raise ValueError("its candidates are not finite numbers")
                trial.tell(-np.sum((asked - asked[0]) ** 2, axis=1))
            if not (np.isfinite(trial.best()).all() and 0 < trial.spread() < math.inf):
                raise ValueError("its spread is no number above 0")


def constant(name: str) -> float:
    """Of JSON's words for numbers that are not finite, those that pycma keeps as limits; ValueError for NaN."""
    if name == "NaN":
        raise ValueError("a number that is NaN")
    return float(name)


def not_of_this_search(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is not a checkpoint of this search: {error}; delete it to begin anew")


def require_shapes(arrays: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> None:
    """ValueError unless `arrays` has all of `own`, numbers of the same shapes."""
    for name, mine in own.items():
        if name not in arrays:
            raise ValueError(f"it lacks {name}")
        if np.shape(arrays[name]) != mine.shape:
            raise ValueError(f"{name} of shape {np.shape(arrays[name])}, expected {mine.shape}")
        if np.asarray(arrays[name]).dtype.kind not in "biuf":
            raise ValueError(f"{name} of {arrays[name].dtype}, expected numbers")
