"""The driver: the paper's rollout, for a batch of episodes at once.

Episodes advance in lockstep in lanes, so that V and M see one batch in each time step. When the episode of a lane ends,
the next one takes its place. What happens in a lane depends neither on the others nor on its number. `controller.lanes`
has the two kinds of lanes, the game's and the dream's. Whatever else happens in an episode (recording, films, surprise)
is a watcher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from world_models import mpi
from world_models.jobs import Jobs
from world_models.runs.arrays import require_finite


@dataclass
class Step:
    """What happened in one step of B lanes; in a dream in one segment of steps.

    Attributes:
        playing: the lanes in which an episode was played.
        ended: (lane, return, steps) of the episodes that it ended.
        total: (B,), the return so far.
        z: (B, Z), of a dream, after the segment.
        frames: uint8 (B, 64, 64, 3), of the game, before the step.
        is_first, h, c: (B, 1), (B, U), of the game, before the step; h and c still hold the last episode's state where
            is_first is 1.
        action, reward, terminated, truncated: (B, A), (B,), of the game.
        surprise: (B,), M's at z, if the lanes compute it.
    """

    playing: list[int]
    ended: list[tuple[int, float, int]]
    total: np.ndarray
    z: Any = None
    frames: Any = None
    is_first: Any = None
    h: Any = None
    c: Any = None
    action: Any = None
    reward: Any = None
    terminated: Any = None
    truncated: Any = None
    surprise: Any = None


class Lanes(Protocol):
    """Episodes that advance in lockstep.

    Attributes:
        count: lanes (B).
    """

    count: int

    def start(self, lane: int, params: np.ndarray, seed: int, noise: float = 0.0) -> None:
        """Begins an episode in a lane, of an agent with parameters (P,). `seed` decides all its randomness; `noise` is
        the standard deviation of noise on C's outputs."""

    def advance(self) -> Step:
        """One or more steps of every lane in use."""

    def close(self) -> None:
        """Frees what the lanes hold."""


class Watcher:
    """Something that happens along with episodes. Each method does nothing by default."""

    def start(self, lane: int, job: int) -> None:
        """Episode number `job` begins in a lane."""

    def step(self, step: Step) -> None:
        """The lanes have advanced."""

    def end(self, lane: int, job: int, total: float, steps: int) -> float:
        """An episode has ended with the return `total`; returns what counts as its return."""
        return total


def play(
    lanes: Lanes,
    jobs: Jobs,
    params: Sequence[np.ndarray] | np.ndarray,
    seeds: Sequence[int],
    watchers: Sequence[Watcher] = (),
    noises: Sequence[float] | None = None,
) -> dict[int, tuple[float, int]]:
    """Plays the episodes that `jobs` hands to this rank.

    Args:
        lanes: where they are played.
        jobs: which rank plays which episode.
        params: (J, P), the controller of each episode.
        seeds: (J,), the seed of each episode.
        watchers: what happens along with them, in this order.
        noises: (J,), the standard deviation of noise on C's outputs in each episode; None: no noise.

    Returns:
        (return, steps) of this rank's episodes, by number.
    """
    playing: dict[int, int] = {}  # the job of each lane in use
    free = list(range(lanes.count))
    results: dict[int, tuple[float, int]] = {}
    with mpi.hang_limit(jobs.comm) as within_limit:
        while playing or not jobs.over:
            if free:
                for job in jobs.take(len(free), wait=not playing):
                    lane = free.pop()
                    lanes.start(lane, params[job], seeds[job], noises[job] if noises is not None else 0.0)
                    playing[lane] = job
                    for watcher in watchers:
                        watcher.start(lane, job)
            if not playing:
                continue
            step = lanes.advance()
            for watcher in watchers:
                watcher.step(step)
            for lane, total, steps in step.ended:
                job = playing.pop(lane)
                for watcher in watchers:
                    total = watcher.end(lane, job, total, steps)
                results[job] = (total, steps)
                free.append(lane)
            jobs.serve()
            within_limit()
    return results


def evaluate(
    comm: mpi.Comm, lanes: Lanes, params: np.ndarray, seeds: list[int], watchers: Sequence[Watcher] = ()
) -> tuple[Any, Any]:
    """Plays one episode for each row of `params` (J, P), with the seed of the same index, spread over the ranks.

    Returns (returns (J,), steps (J,)) on rank 0, and (None, None) elsewhere.
    """
    jobs = Jobs(comm, len(seeds))
    mine = play(lanes, jobs, params, seeds, watchers)
    jobs.close()
    shares = comm.gather(mine)
    if comm.rank:
        return None, None
    results = {job: result for share in shares for job, result in share.items()}
    assert sum(map(len, shares)) == len(results) == len(seeds), "every job is played by exactly one rank"
    for job, (total, _) in results.items():
        require_finite(f"episode of seed {seeds[job]}", {"its return": total})
    returns, steps = (np.array([results[job][k] for job in range(len(seeds))]) for k in (0, 1))
    return returns, steps
