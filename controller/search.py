"""The searches: ask for candidates, tell their scores, and take the best. They maximise, on rank 0 alone.

A search draws from the generator that it is given: its numbers depend neither on the number of ranks nor on a stop in
between.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import cma
import numpy as np
from threadpoolctl import threadpool_limits

from world_models.config import Config
from world_models.runs import pickles
from world_models.runs.arrays import require_finite


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
        """Takes back what `state` returned. Raises one of `checkpoint.INVALID_STATE_ERRORS` if it does not fit."""


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
        search = pickles.load(arrays["pickle"], own)
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
