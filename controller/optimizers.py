"""The searches by name, and those that are not CMA-ES, in plain numpy.

All speak ask / tell / best (es.py), run on rank 0 alone, and draw from the generator they are given: their numbers
depend neither on the number of ranks nor on a stop in between.
"""

from functools import partial

import numpy as np

from controller.cmaes import CMAES
from controller.es import Optimizer
from world_models.config import Config
from world_models.runs.arrays import Kind


class OpenAIES(Optimizer):
    """OpenAI's evolution strategy (Salimans et al. 2017, arXiv 1703.03864): the score's gradient, estimated from
    mirrored noise of fixed width and from ranks instead of scores, climbed with Adam.

    Candidates i and i + half are mirror images: with `--seeds pairs` both play the same episodes.

    Args:
        rate: Adam's learning rate (the paper's 0.01).
        The others are Optimizer's; `sigma` stays as it is, `population` is even.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's, as in its paper

    def __init__(self, size, sigma, population, rng, x0=None, rate: float = 0.01):
        super().__init__(size, sigma, population, rng, x0)
        self.rate, self.steps = rate, 0
        self.first, self.second = np.zeros(size), np.zeros(size)  # Adam's moments

    def ask(self) -> np.ndarray:
        half = self.rng.standard_normal((self.population // 2, self.size))
        self.noise = np.concatenate([half, -half])
        return self.center + self.sigma * self.noise

    def _update(self, scores: np.ndarray) -> None:
        """One Adam step along the mean of noise times centred rank, which estimates the gradient (its equation 1)."""
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

    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        return {"center": self.center, "first": self.first, "second": self.second}, {"steps": self.steps}

    def require_fit(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        super().require_fit(arrays, small)
        if type(small["steps"]) is not int or small["steps"] < 0 or (arrays["second"] < 0).any():
            raise ValueError("its steps, or Adam's second moments, are none")

    def set_state(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        self.center, self.first, self.second = arrays["center"], arrays["first"], arrays["second"]
        self.steps = small["steps"]


class GeneticAlgorithm(Optimizer):
    """A genetic algorithm without crossover (Such et al. 2017, arXiv 1712.06567): the best of a generation are the next
    one's parents, each child one of them plus Gaussian noise; the very best lives on, and plays again.

    Args:
        elite: share of a generation that become parents, two at least.
        The others are Optimizer's; `sigma` is the noise of the first generation about `x0`, and of every child.
    """

    def __init__(self, size, sigma, population, rng, x0=None, elite: float = 0.2):
        super().__init__(size, sigma, population, rng, x0)
        self.parents = self.center[None]  # (parents, size), the best first
        self.kept = max(2, round(elite * population))

    def ask(self) -> np.ndarray:
        chosen = self.rng.integers(len(self.parents), size=self.population - 1)
        children = self.parents[chosen] + self.sigma * self.rng.standard_normal((self.population - 1, self.size))
        self.asked = np.concatenate([self.parents[:1], children])
        return self.asked.copy()

    def _update(self, scores: np.ndarray) -> None:
        order = np.argsort(-scores, kind="stable")
        self.parents = self.asked[order[: self.kept]]

    def best(self) -> np.ndarray:
        """The last generation's best."""
        return self.parents[0].copy()

    def spread(self) -> float:
        """Of the next generation's children: that of their parents and the noise."""
        return float(np.sqrt(self.sigma**2 + np.mean(self.parents.var(axis=0))))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A child of one of the parents."""
        return self.parents[rng.integers(len(self.parents))] + self.sigma * rng.standard_normal(self.size)

    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        return {"parents": self.parents}, {}

    def kinds(self) -> dict[str, Kind]:
        return {"parents": ("float64", (None, self.size))}

    def require_fit(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        found, expected = np.shape(arrays["parents"]), (self.kept, self.size)
        if found not in (expected, (1, self.size)):  # one before the first generation
            raise ValueError(f"parents of shape {found}, expected {expected}")
        if arrays["parents"].dtype.kind != "f":
            raise ValueError(f"parents of {arrays['parents'].dtype}, expected numbers")

    def set_state(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        self.parents = arrays["parents"]


def centred_ranks(scores: np.ndarray) -> np.ndarray:
    """Scores (N,) -> -0.5 for the lowest .. 0.5 for the highest, evenly spaced; equal scores share their mean rank."""
    scores = np.asarray(scores)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts + 1) / 2)[inverse]
    return ranks / (len(scores) - 1) - 0.5


OPTIMIZERS = {
    "cma": CMAES,
    "cma-diagonal": partial(CMAES, CMA_diagonal=True),
    "cma-tpa": partial(CMAES, adaptation="tpa"),
    "cma-cmean": partial(CMAES, CMA_cmean=0.5),
    "openai-es": OpenAIES,
    "ga": GeneticAlgorithm,
}


def make_optimizer(config: Config, size: int, rng: np.random.Generator, x0: np.ndarray | None = None) -> Optimizer:
    """The run's search, from `x0` (size,), by default 0."""
    return OPTIMIZERS[config.optimizer](size, config.sigma, config.population, rng, x0)
