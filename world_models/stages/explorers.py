"""The agents that record a round's episodes: the last round's, varied so that their behaviours differ."""

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from controller import checkpoint
from controller.policy import Controller
from controller.search import make_search
from world_models import seeds
from world_models.config import Config
from world_models.runs import files
from world_models.runs.agent import digest, read_best
from world_models.runs.artifacts import SEARCHES
from world_models.runs.run import Run


@dataclass
class Explorer:
    """The agent of one recorded episode."""

    parameters: np.ndarray  # (P,), of C
    noise: float  # standard deviation of the noise on its actions
    source: dict  # what the episode's file says of it


class Finished:
    """A search that is over: its kept agent, of `size` parameters, and the distribution around it."""

    def __init__(self, run: Run, size: int, objective: str):
        folder = SEARCHES[objective]
        self.best = read_best(run, size, objective)
        self.mean = np.array(self.best["parameters"])
        self.search = None
        if (run / folder / "checkpoint.npz").exists():
            self.search = make_search(run.config, size, np.random.default_rng())
            checkpoint.restore(self.search, run.need(f"{folder}/checkpoint.npz"))
            self.search.ask()  # brings pycma's eigenvectors up to date, so that all later draws use the same
            self.center = self.search.best()
        else:
            # A pack has no covariance. Its history has the root mean square of the standard deviations.
            history = files.read_lines(run / folder / "history.jsonl", "sigma")
            self.sigma = history[-1]["sigma"] if history else run.config.sigma

    def deviation(self, rng: np.random.Generator) -> np.ndarray:
        """(P,): how far a draw from the distribution lies from where the search stands."""
        if self.search is None:
            return self.sigma * rng.standard_normal(len(self.mean))
        return self.search.draw(rng) - self.center


class Explorers:
    """Draws the agents that record, as the settings of their run say, from the searches of the round before:
    controller/, and curious/, which is read when an episode needs it."""

    def __init__(self, before: Run, config: Config):
        size = Controller.of(before.config).num_params  # the new round's C may see something else
        self.config, self.search = config, lru_cache(partial(Finished, before, size))
        self.search("return")

    def agent(self, index: int) -> Explorer:
        """The agent of episode number `index`: always the same one. UserError if its file is missing or damaged."""
        rng = seeds.generator(self.config.seed, "explorers", self.config.round, index)
        noise = self.config.action_noise if rng.random() < self.config.noisy_share else 0.0
        objective = "surprise" if rng.random() < self.config.curious_share else "return"
        search = self.search(objective)
        parameters = search.mean + self.config.spread * search.deviation(rng)
        return Explorer(parameters, noise, self._source(objective, self.config.spread, noise))

    def kept(self) -> Explorer:
        """The kept agent itself, without noise."""
        search = self.search("return")
        source = self._source("return", 0.0, 0.0) | {"agent": digest(search.best["parameters"])}
        return Explorer(search.mean, 0.0, source)

    def _source(self, objective: str, spread: float, noise: float) -> dict:
        agent = {"policy": SEARCHES[objective], "generation": self.search(objective).best["generation"]}
        return {"round": self.config.round, **agent, "spread": spread, "action_noise": noise}
