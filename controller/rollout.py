"""The paper's rollout, for a batch of episodes at once.

Episodes advance in lockstep in `lanes`, so that V and M see one batch a time step. A lane has parameters, a
seed and a state of its own; when its episode ends, the next one takes its place. What happens in a lane does
not depend on the others, nor on which lane it is.
"""

import numpy as np
import tensorflow as tf

from config import IDLE_REWARD, Config
from controller.agent import make_agent, policy_size
from env import make_env
from seeds import generator


def play(
    lanes, jobs, params: np.ndarray, seeds: list[int], done=None, patience: int = 0
) -> dict[int, tuple[float, int]]:
    """Plays the episodes that `jobs` hands to this rank.

    Args:
        lanes: `RealLanes` or `DreamLanes`: `count`, `start(lane, params, seed, patience)`, and `advance()`, which
            returns (lane, return, steps) of the episodes that ended.
        jobs: who plays which episode; see `mpi.Jobs`.
        params: (J, P), the controller of each episode; seeds: (J,), its seed.
        done: called with each finished episode's number.
        patience: frames without reward that end an episode early; 0: never.

    Returns:
        (return, steps) of this rank's episodes, by number.
    """
    playing: dict[int, int] = {}
    free = list(range(lanes.count))
    results: dict[int, tuple[float, int]] = {}
    while True:
        if free and not jobs.over:
            for job in jobs.take(len(free), wait=not playing):
                lane = free.pop()
                lanes.start(lane, params[job], seeds[job], patience)
                playing[lane] = job
        if not playing:
            if jobs.over:
                return results
            continue
        for lane, total, steps in lanes.advance():
            job = playing.pop(lane)
            results[job] = (total, steps)
            free.append(lane)
            if done is not None:
                done(job)
        jobs.serve()


class RealLanes:
    """Lanes in the real environment. One set of models; environments are kept from episode to episode.

    Args:
        config: the run's.
        vae, rnn: V and M, with their weights.
        count: lanes.
    """

    def __init__(self, config: Config, vae, rnn, count: int):
        self.config, self.count = config, count
        self.agent = make_agent(config, vae, rnn, count)
        self.envs = [make_env(config) for _ in range(count)]
        self.frames = np.zeros((count, 64, 64, 3), np.uint8)
        self.noise = np.zeros((count, config.z_size), np.float32)
        self.params = np.zeros((count, policy_size(config)), np.float32)
        self.fresh = np.ones((count, 1), np.float32)
        self.h = self.c = tf.zeros((count, config.rnn_units))
        self.random: list[np.random.Generator | None] = [None] * count
        self.total, self.steps = np.zeros(count), np.zeros(count, int)
        self.patience, self.idle = np.zeros(count, int), np.zeros(count, int)  # frames allowed and spent without reward

    def start(self, lane: int, params: np.ndarray, seed: int, patience: int = 0) -> None:
        """Begins an episode; `seed` decides the environment's randomness and the noise of z.

        With a `patience` it ends after so many frames without a positive reward, and its return is completed as if the
        car stood still from there to the last frame: comparable with the return of an episode played to the end.
        """
        self.frames[lane], _ = self.envs[lane].reset(seed=seed)
        self.params[lane], self.fresh[lane] = params, 1
        self.random[lane] = generator(seed, "noise of z")  # not the track's stream, which has the seed itself
        self.total[lane], self.steps[lane] = 0, 0
        self.patience[lane], self.idle[lane] = patience, 0

    def advance(self) -> list[tuple[int, float, int]]:
        """One step of every lane that plays; (lane, return, steps) of those whose episode it ended."""
        playing = [lane for lane in range(self.count) if self.random[lane] is not None]
        for lane in playing:
            self.random[lane].standard_normal(dtype=np.float32, out=self.noise[lane])
        action, self.h, self.c = self.agent(self.frames, self.noise, self.params, self.fresh, self.h, self.c)
        action = action.numpy()
        self.fresh[:] = 0
        ended = []
        for lane in playing:
            self.frames[lane], reward, terminated, truncated, _ = self.envs[lane].step(action[lane])
            self.total[lane] += reward
            self.steps[lane] += 1
            self.idle[lane] = 0 if reward > 0 else self.idle[lane] + 1
            over = terminated or truncated or self.steps[lane] == self.config.max_frames
            if not over and self.patience[lane] and self.idle[lane] >= self.patience[lane]:
                over = True
                self.total[lane] += IDLE_REWARD[self.config.task] * (self.config.max_frames - self.steps[lane])
            if over:
                ended.append((lane, float(self.total[lane]), int(self.steps[lane])))
                self.random[lane] = None
        return ended

    def close(self) -> None:
        for env in self.envs:
            env.close()
