"""Curiosity: the paper's "flip the sign of M's loss" (section 5), as what C is evolved for."""

import numpy as np

from controller.rollout import Step, Watcher


class Surprise(Watcher):
    """Makes M's mean surprise in a step, in nats for each dimension of z, the return of an episode.

    Args:
        count: lanes (B); they must compute the surprise.
    """

    def __init__(self, count: int):
        self.total = np.zeros(count)

    def start(self, lane: int, job: int) -> None:
        self.total[lane] = 0

    def step(self, step: Step) -> None:
        self.total += step.surprise.numpy()

    def end(self, lane: int, job: int, total: float, steps: int) -> float:
        return float(self.total[lane]) / steps
