"""What may happen along with episodes: progress, and M's surprise. Recording and films are watchers of the stages."""

from collections.abc import Callable

import numpy as np

from controller.rollout import Step, Watcher
from world_models import mpi, progress


class Progress(Watcher):
    """Calls `done(job, return, steps)` after each episode of this rank."""

    def __init__(self, done: Callable[[int, float, int], object]):
        self.done = done

    def end(self, lane: int, job: int, total: float, steps: int) -> float:
        self.done(job, total, steps)
        return total


class Bar(Watcher):
    """A progress bar of episodes, on rank 0. It counts that rank's episodes for all ranks, up to `limit`."""

    def __init__(self, comm: mpi.Comm, total: int, text: str, done: int = 0):
        self.ranks, self.limit = comm.size, total
        self.tqdm = progress.bar(total=total, initial=done, desc=text, unit="episode", disable=comm.rank > 0)

    def begin(self, text: str, count: int) -> None:
        """A part of `count` episodes begins."""
        self.tqdm.set_description(text)
        self.limit = self.tqdm.n + count

    def end(self, lane: int, job: int, total: float, steps: int) -> float:
        self.tqdm.update(min(self.ranks, self.limit - self.tqdm.n))
        return total

    def finish(self, text: str = "") -> None:
        """All episodes up to `limit` are over."""
        self.tqdm.update(self.limit - self.tqdm.n)
        self.tqdm.set_postfix_str(text)


class Surprise(Watcher):
    """Curiosity, the paper's "flip the sign of M's loss" (section 5): an episode's return is M's mean surprise in a
    step, in nats for each dimension of z. The lanes must compute it."""

    def __init__(self, count: int):
        self.total = np.zeros(count)  # by lane

    def start(self, lane: int, job: int) -> None:
        self.total[lane] = 0

    def step(self, step: Step) -> None:
        self.total += step.surprise.numpy()

    def end(self, lane: int, job: int, total: float, steps: int) -> float:
        return float(self.total[lane]) / steps
