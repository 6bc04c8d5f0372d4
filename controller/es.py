"""Searches as ask / tell / best, maximising: what they have in common, and CMA-ES, which pycma computes.

A search's whole state is written and read as arrays and JSON, so that a resumed search is the same search. The others
are in optimizers.py.
"""

import copy
import json
import math
import types
import warnings
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import cache
from pathlib import Path

import cma
import numpy as np
from threadpoolctl import threadpool_limits

from common.arrays import NUMBERS, Kind, open_npz
from common.integrity import UNREADABLE, check_made_from, require_finite
from common.storage import atomic_write
from config import UserError

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


class CMAES(Optimizer):
    """CMA-ES (train.py of the release; paper A.4).

    Args:
        adaptation: of the step size: "csa", cumulative (pycma's choice of 2018), or "tpa", two-point (what today's
            would choose for so many dimensions).
        options: pycma's, such as CMA_diagonal.
        The others are Optimizer's.
    """

    def __init__(self, size, sigma, population, rng, x0=None, adaptation: str = "csa", **options):
        super().__init__(size, sigma, population, rng, x0)
        # Sums of several threads have other last bits than one thread's: the curve would depend on the cores.
        threadpool_limits(1, user_api="blas")
        step = {"csa": cma.sigma_adaptation.CMAAdaptSigmaCSA, "tpa": cma.sigma_adaptation.CMAAdaptSigmaTPA}[adaptation]
        options = {
            "popsize": population,
            "AdaptSigma": step,
            "randn": lambda *shape: self.rng.standard_normal(shape),
            "seed": np.nan,  # leave numpy's global generator alone
            "signals_filename": "",  # else a file of that name where the command runs would steer the search
            "verbose": -9,
            "verb_log": 0,
            "verb_disp": 0,
            "conditioncov_alleviate": False,  # a change of coordinates, which no checkpoint could hold
        } | options
        self.search = cma.CMAEvolutionStrategy(self.center, sigma, options)
        if adaptation == "tpa":
            self.search.adapt_sigma.check_consistency = lambda es: None  # it draws from numpy's global generator

    def ask(self) -> np.ndarray:
        self.asked = self.search.ask()
        return np.array(self.asked)

    def _update(self, scores: np.ndarray) -> None:
        """Tells pycma, which minimises: the one place where the sign flips."""
        self.search.tell(self.asked, [-float(score) for score in scores])

    def best(self) -> np.ndarray:
        """The distribution's mean."""
        return np.array(self.search.mean)

    def spread(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.search.result.stds))))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Alone, since among several the first are not drawn but the two points of "tpa"."""
        self.rng = rng
        return np.array(self.search.ask(1)[0])

    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        """Every array by its name in pycma's object, everything small as JSON."""
        arrays: dict[str, np.ndarray] = {}
        small: dict[str, object] = {}
        aliases: dict[str, str] = {}
        collect(self.search, "", arrays, small, aliases, {})
        return arrays, {"small": small, "aliases": aliases}

    def set_state(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        self.search.ask()  # makes what pycma makes at the first generation only; all it drew is overwritten
        for name, value in by_name(arrays, small).items():
            assign(self.search, name, value)

    def require_fit(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        found, own = by_name(arrays, small), by_name(*self.state())
        # Lists of arrays come and go with the generations: those that are empty here have another name there.
        found |= {name.removesuffix(LIST): value for name, value in found.items() if name.endswith(LIST)}
        # A single number may become one for each dimension, as the scaling of a diagonal covariance does.
        sized = {name: value for name, value in own.items() if isinstance(value, np.ndarray) and value.ndim}
        require_shapes(found, sized)
        if lacking := own.keys() - found.keys():
            raise ValueError(f"it lacks {min(lacking)}")
        if found["sp.popsize"] != own["sp.popsize"]:
            raise ValueError(f"a population of {found['sp.popsize']}, expected {own['sp.popsize']}")
        for name in own:  # what follows from size and population
            if name.startswith(("N", "sp.")) and not np.array_equal(found[name], own[name]):
                raise ValueError(f"{name} {found[name]}, expected {own[name]}")


def by_name(arrays: dict[str, np.ndarray], small: dict) -> dict:
    """All that `CMAES.state` returned, every value under each of its names."""
    return small["small"] | arrays | {name: arrays[first] for name, first in small["aliases"].items()}


# What pycma keeps beside the search itself, by the last part of its name: how it was called,
SKIPPED = {"opts", "inopts", "_inopts_save_fix", "_es_opts", "inputargs", "params", "_tell2_args"}
# clocks, logs, random generators,
SKIPPED |= {"timer", "logger", "more_to_write", "randn", "_randn"}
# what follows from the arguments, and what it computes again.
SKIPPED |= {"sent_solutions", "archive", "boundary_handler", "weights", "eigenmethod"}
SKIPPED |= {"_parameters", "_mueff", "_lam", "_stopdict"}


# What a search raises when it goes on from numbers that make no sense; other exceptions are faults of the program.
NONSENSE = (*UNREADABLE, ArithmeticError, AttributeError, AssertionError)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
LIST = "[]"  # ends the name of an array that stands for a list of its rows


def collect(item: object, prefix: str, arrays: dict, small: dict, aliases: dict, seen: dict) -> None:
    """Gathers the numbers of an object and of the objects it holds, by dotted name.

    An array that stands under several names (C, B and D do) is kept once; `aliases` has the other names. TypeError at
    anything that can be neither kept nor skipped: a resumed search would be another one.
    """
    seen[id(item)] = prefix
    for name, value in vars(item).items():
        path = f"{prefix}{name}"
        if name in SKIPPED or isinstance(value, FUNCTIONS):
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            if id(value) in seen:
                aliases[path] = seen[id(value)]
            else:
                seen[id(value)] = path
                arrays[path] = value
        elif isinstance(value, np.generic):
            small[path] = value.item()
        elif value is None or isinstance(value, (bool, int, float, str)):
            small[path] = value
        elif isinstance(value, (list, tuple, range)) and all(isinstance(v, (bool, int, float)) for v in value):
            small[path] = [v.item() if isinstance(v, np.generic) else v for v in value]
        elif isinstance(value, dict) and value and all(isinstance(v, float) for v in value.values()):
            small[path] = {key: float(v) for key, v in value.items()}  # the diagonal covariance's learning rates
        elif isinstance(value, list) and all(isinstance(v, np.ndarray) for v in value):
            arrays[path + LIST] = np.stack(value)  # directions to be tried next, all of one length
        elif hasattr(value, "__dict__") and type(value).__module__.startswith("cma"):
            if id(value) not in seen:
                collect(value, path + ".", arrays, small, aliases, seen)
        elif not (isinstance(value, dict) and not value):  # an empty one holds nothing
            raise TypeError(f"pycma {cma.__version__} keeps {path}, of {type(value)}, which no checkpoint can hold")


def assign(item: object, path: str, value: object) -> None:
    """Sets what `collect` found, where it found it; ValueError of a name that leads elsewhere."""
    if path.endswith(LIST):
        path, value = path.removesuffix(LIST), list(value)
    *parents, name = parts = path.split(".")
    for parent in parents:
        item = vars(item)[parent]
    old = getattr(item, name, None)
    # pycma makes some attributes on the way, but none that its code does not name.
    known = name in vars(item) or name in names_in_code(type(item))
    if callable(old) or not known or any(part in SKIPPED or part.startswith("__") for part in parts):
        raise ValueError(f"{path} is not of a search's state")
    with suppress(AttributeError):  # a property without a setter restates what another attribute holds
        setattr(item, name, tuple(value) if isinstance(old, tuple) else value)


@cache
def names_in_code(kind: type) -> set[str]:
    """The attributes and globals that the methods of one of pycma's classes name; none of another class."""
    found: set[str] = set()
    for part in kind.__mro__:
        for value in vars(part).values() if part.__module__.startswith("cma") else ():
            parts = (value.fget, value.fset) if isinstance(value, property) else (value,)
            found.update(*(code.__code__.co_names for code in parts if isinstance(code, types.FunctionType)))
    return found
