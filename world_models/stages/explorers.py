"""The agents that record a round's episodes: the last round's, varied so that their behaviours differ."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.evolution import FROM
from controller.optimizers import make_optimizer
from controller.policy import Controller
from world_models import seeds
from world_models.config import Config
from world_models.runs import run_dir, storage
from world_models.runs.agent_file import FOLDERS, digest, origin, read_best


@dataclass
class Explorer:
    """The agent of one recorded episode.

    Attributes:
        parameters: (P,), of C.
        noise: standard deviation of the noise on its actions.
        source: what the episode's file says of it.
    """

    parameters: np.ndarray
    noise: float
    source: dict


class Search:
    """A search that is over: its kept agent, and the distribution around it.

    Args:
        path: its folder: best.json and, if they are there, checkpoint.npz and history.jsonl.
        config: the run's.
        size: parameters of C.
    """

    def __init__(self, path: Path, config: Config, size: int):
        self.best = read_best(path, size)
        self.mean = np.array(self.best["parameters"])
        self.search = None
        if (path / "checkpoint.npz").exists():
            # As its own run has it: the next round may have another population.
            own = run_dir.load(path.parent)
            objective = next(name for name, folder in FOLDERS.items() if folder == path.name)
            self.search = make_optimizer(own, size, np.random.default_rng())
            self.search.restore(path / "checkpoint.npz", path.parent, FROM, **origin(own, objective))
            self.search.ask()  # the first brings pycma's eigenvectors up to date: all later draws have the same
            self.center = self.search.best()
        else:
            # A packed run has no covariance, but its history has the root mean square of the standard deviations.
            history = storage.read_lines(path / "history.jsonl", "sigma")
            self.sigma = history[-1]["sigma"] if history else config.sigma

    def deviation(self, rng: np.random.Generator) -> np.ndarray:
        """(P,): how far a draw from the distribution lies from where the search stands."""
        if self.search is None:
            return self.sigma * rng.standard_normal(len(self.mean))
        return self.search.draw(rng) - self.center


class Explorers:
    """Draws the agents that record, from the searches of the round before.

    Args:
        before: folder of the last round's C: controller/, and curious/, which is read once an episode is its.
        config: the run's: how far they stray (spread), how many have noise (noisy) and how much (action_noise), and
            how many seek M's surprise (curious).
    """

    def __init__(self, before: Path, config: Config):
        self.before, self.config = before, config
        self.size = Controller.of(run_dir.load(before)).num_params  # the new round's C may see something else
        self.searches = {"controller": Search(before / "controller", config, self.size)}

    def agent(self, index: int) -> Explorer:
        """The agent of episode number `index`: always the same one. UserError if its file is missing or damaged."""
        rng = seeds.generator(self.config.seed, "explorers", self.config.round, index)
        noise = self.config.action_noise if rng.random() < self.config.noisy else 0.0
        kind = "curious" if rng.random() < self.config.curious else "controller"
        if kind not in self.searches:
            self.searches[kind] = Search(self.before / kind, self.config, self.size)
        search = self.searches[kind]
        parameters = search.mean + self.config.spread * search.deviation(rng)
        return Explorer(parameters, noise, self._source(kind, self.config.spread, noise))

    def kept(self) -> Explorer:
        """The kept agent itself, without noise."""
        search = self.searches["controller"]
        source = self._source("controller", 0.0, 0.0) | {"agent": digest(search.best["parameters"])}
        return Explorer(search.mean, 0.0, source)

    def _source(self, kind: str, spread: float, noise: float) -> dict:
        agent = {"policy": kind, "generation": self.searches[kind].best["generation"]}
        return {"round": self.config.round, **agent, "spread": spread, "action_noise": noise}
