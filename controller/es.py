"""Searches as ask / tell / best, maximising: what they have in common, and CMA-ES, which pycma computes.

A search's whole state is written and read as arrays and JSON, so that a resumed search is the same search. The others
are in optimizers.py.
"""

import json
from abc import ABC, abstractmethod
from pathlib import Path

import cma
import numpy as np

from config import UserError
from folder import whole


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

    @abstractmethod
    def tell(self, scores: np.ndarray) -> None:
        """Takes the candidates' scores (population,), higher is better."""

    @abstractmethod
    def best(self) -> np.ndarray:
        """The vector that the search stands at, (size,): the agent that is scored and kept."""

    @abstractmethod
    def spread(self) -> float:
        """Root mean square over dimensions of the candidates' standard deviation: "sigma" in the curves."""

    @abstractmethod
    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        """Everything that decides the next generations but the random generator: arrays, and what JSON can say."""

    @abstractmethod
    def set_state(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        """Takes back what `state` returned, in an object made with the same arguments."""

    def save(self, path: Path, extra: dict) -> None:
        """Writes the state, and `extra` beside it, to one npz."""
        arrays, small = self.state()
        header = {**small, "random": self.rng.bit_generator.state, "extra": extra}
        with whole(path) as beside, open(beside, "wb") as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)

    def restore(self, path: Path) -> dict:
        """Reads what `save` wrote into this object, made with the same arguments; returns `extra`."""
        try:
            with np.load(path) as file:
                header = json.loads(str(file["header"]))
                arrays = {name: file[name] for name in file.files if name != "header"}
        except Exception as error:
            raise UserError(f"{path} is not a checkpoint of a search: {error}") from None
        self.set_state(arrays, header)
        self.rng.bit_generator.state = header["random"]
        return header["extra"]


class CMAES(Optimizer):
    """CMA-ES from 0 (train.py of the release; paper A.4).

    Args:
        adaptation: of the step size: "csa", cumulative (pycma's choice of 2018), or "tpa", two-point (what today's
            would choose for so many dimensions).
        options: pycma's, such as CMA_diagonal.
        The others are Optimizer's.
    """

    def __init__(self, size, sigma, population, rng, x0=None, adaptation: str = "csa", **options):
        super().__init__(size, sigma, population, rng, x0)
        step = {"csa": cma.sigma_adaptation.CMAAdaptSigmaCSA, "tpa": cma.sigma_adaptation.CMAAdaptSigmaTPA}[adaptation]
        options = {
            "popsize": population,
            "AdaptSigma": step,
            "randn": lambda *shape: self.rng.standard_normal(shape),
            "seed": np.nan,  # leave numpy's global generator alone
            "verbose": -9,
            "verb_log": 0,
            "verb_disp": 0,
        } | options
        self.search = cma.CMAEvolutionStrategy(self.center, sigma, options)

    def ask(self) -> np.ndarray:
        self.asked = self.search.ask()
        return np.array(self.asked)

    def tell(self, scores: np.ndarray) -> None:
        """Takes the candidates' scores; the one place where the sign flips."""
        self.search.tell(self.asked, [-float(score) for score in scores])

    def best(self) -> np.ndarray:
        """The distribution's mean."""
        return np.array(self.search.mean)

    def spread(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.search.result.stds))))

    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        """Every array by its name in pycma's object, everything small as JSON."""
        arrays: dict[str, np.ndarray] = {}
        small: dict[str, object] = {}
        aliases: dict[str, str] = {}
        collect(self.search, "", arrays, small, aliases, {})
        return arrays, {"small": small, "aliases": aliases}

    def set_state(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        self.search.ask()  # makes what pycma makes at the first generation only; all it drew is overwritten
        shared = {name: arrays[first] for name, first in small["aliases"].items()}
        for name, value in (small["small"] | arrays | shared).items():
            assign(self.search, name, value)


# What pycma keeps beside the search itself: clocks, logs, what it prints, and caches it fills again.
SKIPPED = {"opts", "inopts", "_inopts_save_fix", "timer", "logger", "more_to_write", "randn", "_randn"}


LIST = "[]"  # ends the name of an array that stands for a list of its rows


def collect(item: object, prefix: str, arrays: dict, small: dict, aliases: dict, seen: dict) -> None:
    """Gathers the numbers of an object and of the objects it holds, by dotted name.

    An array that stands under several names (C, B and D do) is kept once; `aliases` has the other names.
    """
    seen[id(item)] = prefix
    for name, value in vars(item).items():
        path = f"{prefix}{name}"
        if name in SKIPPED or callable(value):
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
        elif hasattr(value, "__dict__") and type(value).__module__.startswith("cma") and id(value) not in seen:
            collect(value, path + ".", arrays, small, aliases, seen)


def assign(item: object, path: str, value: object) -> None:
    """Sets what `collect` found, where it found it."""
    if path.endswith(LIST):
        path, value = path.removesuffix(LIST), list(value)
    *parents, name = path.split(".")
    for parent in parents:
        item = getattr(item, parent)
    try:
        old = getattr(item, name, None)
        setattr(item, name, tuple(value) if isinstance(old, tuple) else value)
    except AttributeError:
        # A property without a setter restates what another attribute holds.
        pass
