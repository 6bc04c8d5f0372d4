"""The agents that record a round's episodes: the last round's, varied so that their behaviours differ."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import seeds
from config import Config
from controller import policy
from controller.es import CMAES
from controller.scoring import read_best
from folder import read_lines


@dataclass
class Explorer:
    """Who plays one recorded episode.

    Attributes:
        parameters: (P,), of C.
        noise: standard deviation of the noise on its actions.
        source: what the episode's file says of it.
    """

    parameters: np.ndarray
    noise: float
    source: dict


class Explorers:
    """Draws agents from the search's distribution around its kept mean.

    Args:
        before: folder of the last round's C (controller/best.json and, if there is one, checkpoint.npz).
        config: the run's: how far they stray (spread), how many have noise (noisy) and how much (action_noise).
    """

    def __init__(self, before: Path, config: Config):
        self.config = config
        size = policy.count(config.task, config.features, config.z_size, config.rnn_units)
        self.best = read_best(before, size)
        self.mean = np.array(self.best["parameters"])
        self.search = None
        path = before / "controller" / "checkpoint.npz"
        if path.exists():
            self.search = CMAES(size, config.sigma, config.population, np.random.default_rng())
            self.search.restore(path)
            self.center = self.search.mean()
        else:
            # A packed run has no covariance, but its history has the root mean square of the standard deviations.
            history = read_lines(before / "controller" / "history.jsonl")
            self.sigma = history[-1]["sigma"] if history else config.sigma

    def agent(self, index: int) -> Explorer:
        """The agent of episode number `index`: always the same one."""
        rng = seeds.generator(self.config.seed, "explorers", self.config.round, index)
        if self.search is not None:
            self.search.rng = rng
            deviation = self.search.ask()[0] - self.center
        else:
            deviation = self.sigma * rng.standard_normal(len(self.mean))
        noise = self.config.action_noise if rng.random() < self.config.noisy else 0.0
        parameters = self.mean + self.config.spread * deviation
        return Explorer(parameters, noise, self._source(self.config.spread, noise))

    def kept(self) -> Explorer:
        """The kept agent itself, without noise."""
        return Explorer(self.mean, 0.0, self._source(0.0, 0.0))

    def _source(self, spread: float, noise: float) -> dict:
        agent = {"policy": "agent", "generation": self.best["generation"]}
        return {"round": self.config.round, **agent, "spread": spread, "action_noise": noise}
