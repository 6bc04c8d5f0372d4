"""The paper's rollout, for a batch of episodes at once: `play`, and a population's evaluation.

Episodes advance in lockstep in lanes, so that V and M see one batch a time step. A lane has parameters, a
seed and a state of its own; when its episode ends, the next one takes its place. What happens in a lane does
not depend on the others, nor on which lane it is. `controller.lanes` has the two kinds, the game's and the dream's.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from controller.jobs import Jobs
from world_models import mpi
from world_models.runs.arrays import require_finite


class Lanes(Protocol):
    """Episodes that advance in lockstep.

    Attributes:
        count: lanes (B).
    """

    count: int

    def start(self, lane: int, params: np.ndarray, seed: int, patience: int = 0) -> None:
        """Begins an episode in a lane, of an agent with parameters (P,); `seed` decides all its randomness. It may be
        ended after `patience` frames without reward, if that is not 0."""

    def advance(self) -> list[tuple[int, float, int]]:
        """One or more steps of every lane in use; (lane, return, steps) of the episodes that ended."""

    def close(self) -> None:
        """Frees what the lanes hold."""


def evaluate(
    comm,
    lanes: Lanes,
    params: np.ndarray,
    seeds: list[int],
    done: Callable[[int], None] | None = None,
    saved: str = "nothing was saved",
    patience: int = 0,
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Plays one episode for each row of `params` (J, P) with the seed of the same index, spread over the ranks.

    Returns (returns (J,), steps (J,)) on rank 0, and (None, None) elsewhere. `done(n)` is called with the
    number of episodes that this rank has finished so far. If a signal ends it before all are played, every rank
    raises Stopped with `saved`. `patience` as in `play`.
    """
    jobs = Jobs(comm, len(seeds))
    finished = 0

    def count(job: int, lane: int) -> None:
        nonlocal finished
        finished += 1
        if done is not None:
            done(finished)

    mine = play(lanes, jobs, params, seeds, count, patience)
    jobs.close()
    if sum(comm.allgather(len(mine))) < len(seeds):
        mpi.stop_together(comm, saved)
    shares = comm.gather(mine)
    if comm.rank:
        return None, None
    returns, steps = np.full(len(seeds), np.nan), np.zeros(len(seeds), int)
    for share in shares:
        for job, (total, length) in share.items():
            returns[job], steps[job] = total, length
    played = sum(len(share) for share in shares)
    assert played == len(seeds), "every job is played by exactly one rank"
    for job in np.flatnonzero(~np.isfinite(returns)):
        require_finite(f"episode of seed {seeds[job]}", {"its return": returns[job]})
    return returns, steps


def play(
    lanes: Lanes,
    jobs: Jobs,
    params: np.ndarray,
    seeds: list[int],
    done: Callable[[int, int], None] | None = None,
    patience: int = 0,
) -> dict[int, tuple[float, int]]:
    """Plays the episodes that `jobs` hands to this rank.

    Args:
        lanes: where they are played.
        jobs: which rank plays which episode.
        params: (J, P), the controller of each episode; seeds: (J,), its seed.
        done: called with each finished episode's number and its lane, before another begins there.
        patience: frames without reward that end an episode early; 0: never.

    Returns:
        (return, steps) of this rank's episodes, by number; without those that a signal has interrupted.
    """
    playing: dict[int, int] = {}
    free = list(range(lanes.count))
    results: dict[int, tuple[float, int]] = {}
    with mpi.hang_limit(jobs.comm) as within_limit:
        while not mpi.stopping(jobs.comm):
            if free and not jobs.over:
                for job in jobs.take(len(free), wait=not playing):
                    lane = free.pop()
                    lanes.start(lane, params[job], seeds[job], patience)
                    playing[lane] = job
            if not playing:
                if jobs.over:
                    break
                continue
            for lane, total, steps in lanes.advance():
                job = playing.pop(lane)
                results[job] = (total, steps)
                free.append(lane)
                if done is not None:
                    done(job, lane)
            jobs.serve()
            within_limit()
    return results
