"""Curiosity: the paper's "flip the sign of M's loss" (section 5), as what C is evolved for."""

from pathlib import Path

import numpy as np

from controller.agent import make_agent
from controller.lanes import RealLanes, make_real_lanes
from world_models.config import Config
from world_models.world_model import WorldModel


def make_lanes(run: Path, config: Config) -> "CuriousLanes":
    """The lanes of a rank, with the run's V and M."""
    return make_real_lanes(run, config, CuriousLanes)


class CuriousLanes(RealLanes):
    """Real lanes whose return is M's mean surprise a step, in nats a dimension of z."""

    def __init__(self, config: Config, model: WorldModel, count: int):
        super().__init__(config, model, count)
        agent = make_agent(config, model, count, surprise=True)
        self.surprise = np.zeros(count)

        def step(*inputs):
            action, h, c, self.last = agent(*inputs)
            return action, h, c

        self.agent = step

    def start(self, lane: int, params: np.ndarray, seed: int, patience: int = 0) -> None:
        super().start(lane, params, seed, patience)
        self.surprise[lane] = 0

    def advance(self) -> list[tuple[int, float, int]]:
        ended = super().advance()
        self.surprise += self.last.numpy()
        return [(lane, float(self.surprise[lane]) / steps, steps) for lane, _, steps in ended]
