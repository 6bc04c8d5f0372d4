"""The searches: ask for candidates, tell their scores, and take the best. They maximise, on rank 0 alone.

A search draws from the generator that it is given: its numbers depend neither on the number of ranks nor on a stop in
between.
"""

import json
import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import cma
import numpy as np
from threadpoolctl import threadpool_limits

from world_models.config import Config, UserError
from world_models.runs import pickles
from world_models.runs.arrays import UNREADABLE, open_npz, require_finite

# What a search raises when it goes on from an invalid state. Other exceptions are faults of the program.
INVALID_STATE_ERRORS = (*UNREADABLE, ArithmeticError, AttributeError, AssertionError, MemoryError, UnpicklingError)
HEADER = 1 << 26  # bytes of a checkpoint's header: some 60,000 generations
# The classes and functions in the pickle of pycma's search, by module.
ADMITTED = {
    "builtins": {"range"},
    "cma.boundary_handler": {"BoundNone"},
    "cma.evolution_strategy": {"CMAEvolutionStrategy", "_CMAStopDict", "_StopTolXStagnation", "_pass"}
    | {"_CMASolutionDict_empty", "_CMASolutionDict_functional"},
    "cma.optimization_tools": {"BestSolution"},
    "cma.options_parameters": {"CMAParameters"},
    "cma.recombination_weights": {"RecombinationWeights"},
    "cma.sampler": {"GaussFullSampler", "GaussStandardConstant"},
    "cma.sigma_adaptation": {"CMAAdaptSigmaCSA"},
    "cma.transformations": {"DiagonalDecoding", "GenoPheno", "RoundIntegerVariables"},
    "cma.utilities.utils": {"BlancClass", "ElapsedWCTime", "MoreToWrite", "SolutionDict"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.linalg": {"eigh"},
}


def unusable(path: Path, error: Exception) -> UserError:
    """The message for a checkpoint that the search cannot resume from."""
    return UserError(f"{path} is not a checkpoint of this search: {error!r:.200}; delete it to restart the search")


@dataclass(eq=False)
class Search(ABC):
    """A search for the parameters with the highest score.

    Attributes:
        size: parameters of C (P).
        sigma: the first step size.
        population: candidates in a generation (N).
        rng: the source of all randomness.
        start: (P,), where the search starts; None: at 0.
    """

    size: int
    sigma: float
    population: int
    rng: np.random.Generator
    start: np.ndarray | None = None

    def __post_init__(self):
        self.center = np.zeros(self.size) if self.start is None else np.array(self.start, np.float64)
        if self.center.shape != (self.size,):
            raise ValueError(f"start: expected shape ({self.size},), got {self.center.shape}")

    @abstractmethod
    def ask(self) -> np.ndarray:
        """The next candidates, (N, P)."""

    def tell(self, scores: np.ndarray) -> None:
        """Takes the scores of the candidates (N,); higher is better. UserError if one is not finite."""
        require_finite("the candidates", {f"the score of candidate {k}": score for k, score in enumerate(scores)})
        self._update(np.asarray(scores, np.float64))

    @abstractmethod
    def _update(self, scores: np.ndarray) -> None:
        """Moves the search by the scores (N,) of the candidates that were asked last."""

    @abstractmethod
    def best(self) -> np.ndarray:
        """The mean of the distribution, (P,): the agent that is scored and kept."""

    @abstractmethod
    def spread(self) -> float:
        """The root mean square of the candidates' standard deviations; "sigma" in the curves."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """(P,), a draw from the distribution by another generator. No generation may follow."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Everything that decides the next generations, except for the random generator."""

    @abstractmethod
    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes back what `state` returned. Raises one of INVALID_STATE_ERRORS if it does not fit."""

    def save(self, path: Path, extra: dict) -> None:
        """Writes the state, and `extra`, which JSON can hold, to one npz."""
        header = json.dumps({"random": self.rng.bit_generator.state, "extra": extra})
        with open(path, "wb") as file:
            np.savez(file, allow_pickle=False, header=np.array(header), **self.state())

    def restore(self, path: Path) -> dict:
        """Reads what `save` wrote into a search that was made with the same arguments; returns `extra`. UserError if
        the file is damaged or of another search."""
        room = 4 * sum(array.nbytes for array in self.state().values()) + 64 * self.population * self.size + HEADER
        try:
            with open_npz(path, limit=room) as file:
                header = json.loads(str(file["header"]))
                arrays = {name: file[name] for name in file.files if name != "header"}
            self._go_on(arrays, header["random"])
            self._try_two_generations()
            self._go_on(arrays, header["random"])
        except INVALID_STATE_ERRORS as error:
            raise unusable(path, error) from None
        return header["extra"]

    def _go_on(self, arrays: dict[str, np.ndarray], random: dict) -> None:
        self.set_state(arrays)
        self.rng.bit_generator.state = random

    def _try_two_generations(self) -> None:
        """Raises one of INVALID_STATE_ERRORS if the search cannot go on."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for _ in range(2):
                asked = self.ask()
                fits = asked.shape == (self.population, self.size) and asked.dtype == np.float64
                if not fits or not np.isfinite(asked).all():
                    raise ValueError(f"candidates of shape {asked.shape} and type {asked.dtype}, or not finite")
                self.tell(-np.sum((asked - asked[0]) ** 2, axis=1))
        if not (np.isfinite(self.best()).all() and 0 < self.spread() < math.inf):
            raise ValueError("the spread must be finite and positive")


@dataclass(eq=False)
class CMAES(Search):
    """CMA-ES, computed by pycma (train.py of the release; paper A.4). CSA adapts the step size, as pycma did in 2018.

    Attributes:
        diagonal: whether the covariance is diagonal.
    """

    diagonal: bool = False

    def __post_init__(self):
        super().__post_init__()
        # Sums of several threads differ from one thread's in the last bits: the curve would depend on the cores.
        threadpool_limits(1, user_api="blas")
        options = {
            "popsize": self.population,
            "AdaptSigma": cma.sigma_adaptation.CMAAdaptSigmaCSA,
            "CMA_diagonal": self.diagonal,
            "randn": lambda *shape: self.rng.standard_normal(shape),
            "seed": np.nan,  # leaves numpy's global generator alone
            "signals_filename": "",  # otherwise a file of that name in the working directory would steer the search
            "verbose": -9,
            "verb_log": 0,
            "verb_disp": 0,
            "conditioncov_alleviate": False,
        }
        self.search = cma.CMAEvolutionStrategy(self.center, self.sigma, options)

    def ask(self) -> np.ndarray:
        self.asked = self.search.ask()
        return np.array(self.asked)

    def _update(self, scores: np.ndarray) -> None:
        """Tells pycma, which minimises: the only place where the sign changes."""
        self.search.tell(self.asked, [-float(score) for score in scores])

    def best(self) -> np.ndarray:
        return np.array(self.search.mean)

    def spread(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.search.result.stds))))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        self.rng = rng
        return np.array(self.search.ask(1)[0])

    def _own(self) -> dict[str, object]:
        """What the pickle leaves out, since a search that was made with the same arguments has the same: pycma's
        options, which it evaluates as code, its logger, and the generator."""
        search = self.search
        return {"opts": search.opts, "inopts": search.inopts, "logger": search.logger, "randn": search.opts["randn"]}

    def state(self) -> dict[str, np.ndarray]:
        return {"pickle": pickles.dump(self.search, self._own())}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        own = self._own()
        search = pickles.load(arrays["pickle"], own, ADMITTED)
        if type(search) is not cma.CMAEvolutionStrategy or self.size != search.N:
            raise ValueError(f"expected a search of {self.size} parameters")
        if search.opts is not own["opts"] or search.sp.popsize != self.population:
            raise ValueError(f"expected a population of {self.population}")
        self.search = search


@dataclass(eq=False)
class OpenAIES(Search):
    """OpenAI's evolution strategy (Salimans et al. 2017, arXiv 1703.03864). It estimates the gradient of the score from
    mirrored noise of a fixed width, `sigma`, and from ranks, and climbs it with Adam.

    Candidates i and i + half are mirror images: with `--seed-sharing pairs` both play the same episodes.

    Attributes:
        rate: Adam's learning rate (the paper's 0.01).
    """

    rate: float = 0.01
    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's, from its paper

    def __post_init__(self):
        super().__post_init__()
        self.steps, self.first, self.second = 0, np.zeros(self.size), np.zeros(self.size)  # Adam's moments

    def ask(self) -> np.ndarray:
        half = self.rng.standard_normal((self.population // 2, self.size))
        self.noise = np.concatenate([half, -half])
        return self.center + self.sigma * self.noise

    def _update(self, scores: np.ndarray) -> None:
        """One step of Adam along the mean of noise times centred rank (equation 1 of the paper)."""
        gradient = centred_ranks(scores) @ self.noise / (self.population * self.sigma)
        self.steps += 1
        self.first += (1 - self.BETA1) * (gradient - self.first)
        self.second += (1 - self.BETA2) * (gradient**2 - self.second)
        first = self.first / (1 - self.BETA1**self.steps)
        second = self.second / (1 - self.BETA2**self.steps)
        self.center = self.center + self.rate * first / (np.sqrt(second) + self.EPSILON)

    def best(self) -> np.ndarray:
        return self.center.copy()

    def spread(self) -> float:
        return float(self.sigma)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return self.center + self.sigma * rng.standard_normal(self.size)

    def state(self) -> dict[str, np.ndarray]:
        return {"center": self.center, "first": self.first, "second": self.second, "steps": np.array(self.steps)}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        found = {name: np.array(arrays[name]) for name in ("center", "first", "second")}
        steps = int(arrays["steps"])
        fits = all(array.shape == (self.size,) and array.dtype == np.float64 for array in found.values())
        if not fits or steps < 0 or (found["second"] < 0).any():
            raise ValueError(f"expected arrays of {self.size} parameters")
        self.center, self.first, self.second, self.steps = *found.values(), steps


def centred_ranks(scores: np.ndarray) -> np.ndarray:
    """Scores (N,) -> evenly spaced ranks from -0.5 for the lowest to 0.5; equal scores share their mean rank."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts + 1) / 2)[inverse]
    return ranks / (len(scores) - 1) - 0.5


def make_search(config: Config, size: int, rng: np.random.Generator, start: np.ndarray | None = None) -> Search:
    """The run's search, from `start` (P,), by default 0."""
    given = (size, config.sigma, config.population, rng, start)
    if config.optimizer == "openai-es":
        return OpenAIES(*given)
    return CMAES(*given, diagonal=config.optimizer == "cma-diagonal")
