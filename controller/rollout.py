"""The paper's rollout, for a batch of episodes at once.

Episodes advance in lockstep in `lanes`, so that V and M see one batch a time step. A lane has parameters, a
seed and a state of its own; when its episode ends, the next one takes its place. What happens in a lane does
not depend on the others, nor on which lane it is.
"""

import numpy as np
import tensorflow as tf

from config import Config
from controller.agent import make_agent, policy_size
from controller.episode import Episode
from env import make_env
from seeds import generator

KEEP = 0.95  # of the noise on actions, from step to step: a push lasts about 20 steps


def play(lanes, jobs, params: np.ndarray, seeds: list[int], done=None) -> dict[int, tuple[float, int]]:
    """Plays the episodes that `jobs` hands to this rank.

    Args:
        lanes: `RealLanes` or `DreamLanes`: `count`, `start(lane, params, seed)`, and `advance()`, which
            returns (lane, return, steps) of the episodes that ended.
        jobs: who plays which episode; see `mpi.Jobs`.
        params: (J, P), the controller of each episode; seeds: (J,), its seed.
        done: called with each finished episode's number and its lane, before another begins there.

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
                lanes.start(lane, params[job], seeds[job])
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
                done(job, lane)
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

    def start(self, lane: int, params: np.ndarray, seed: int) -> None:
        """Begins an episode; `seed` decides the environment's randomness and the noise of z."""
        self.frames[lane], _ = self.envs[lane].reset(seed=seed)
        self.params[lane], self.fresh[lane] = params, 1
        self.random[lane] = generator(seed, "noise of z")  # not the track's stream, which has the seed itself
        self.total[lane], self.steps[lane] = 0, 0

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
            if terminated or truncated or self.steps[lane] == self.config.max_frames:
                ended.append((lane, float(self.total[lane]), int(self.steps[lane])))
                self.random[lane] = None
        return ended

    def close(self) -> None:
        for env in self.envs:
            env.close()


class CuriousLanes(RealLanes):
    """Real lanes whose return is M's mean surprise a step, in nats a dimension of z: the paper's "flip the sign of
    M's loss" (section 5)."""

    def __init__(self, config: Config, vae, rnn, count: int):
        super().__init__(config, vae, rnn, count)
        agent = make_agent(config, vae, rnn, count, surprise=True)
        self.surprise = np.zeros(count)

        def step(*inputs):
            action, h, c, self.last = agent(*inputs)
            return action, h, c

        self.agent = step

    def start(self, lane: int, params: np.ndarray, seed: int) -> None:
        super().start(lane, params, seed)
        self.surprise[lane] = 0

    def advance(self) -> list[tuple[int, float, int]]:
        ended = super().advance()
        self.surprise += self.last.numpy()
        return [(lane, float(self.surprise[lane]) / steps, steps) for lane, _, steps in ended]


class RecordingLanes(RealLanes):
    """Real lanes whose episodes are kept, and whose agents may have noise on their actions.

    As in random recordings, CarRacing's episodes go on to `max_frames` whatever happens.

    Attributes:
        episodes: what each lane plays, an `Episode`.
        noises: standard deviation of the noise on actions, by the episode's seed.
    """

    def __init__(self, config: Config, vae, rnn, count: int):
        super().__init__(config, vae, rnn, count)
        space = self.envs[0].action_space
        self.low, self.high = space.low, space.high
        self.agent = make_agent(config, vae, rnn, count, (self.low, self.high))
        self.episodes: list[Episode] = [Episode() for _ in range(count)]
        self.noises: dict[int, float] = {}
        self.push = np.zeros((count, len(self.low)), np.float32)
        self.pushes = [0.0] * count
        self.streams: list[np.random.Generator | None] = [None] * count

    def start(self, lane: int, params: np.ndarray, seed: int) -> None:
        super().start(lane, params, seed)
        self.episodes[lane] = Episode()
        self.pushes[lane] = self.noises.get(seed, 0.0)
        self.push[lane] = 0
        self.streams[lane] = generator(seed, "noise of actions")

    def advance(self) -> list[tuple[int, float, int]]:
        playing = [lane for lane in range(self.count) if self.random[lane] is not None]
        for lane in playing:
            self.random[lane].standard_normal(dtype=np.float32, out=self.noise[lane])
            draw = self.streams[lane].standard_normal(len(self.low), np.float32)
            self.push[lane] = KEEP * self.push[lane] + self.pushes[lane] * np.sqrt(1 - KEEP**2) * draw
        inputs = (self.frames, self.noise, self.params, self.fresh, self.h, self.c, self.push)
        action, self.h, self.c = self.agent(*inputs)
        action = action.numpy()
        self.fresh[:] = 0
        ended = []
        for lane in playing:
            before = self.frames[lane].copy()
            self.frames[lane], reward, terminated, truncated, _ = self.envs[lane].step(action[lane])
            episode = self.episodes[lane]
            episode.add(before, action[lane], reward, terminated or truncated)
            steps = len(episode.actions)
            if steps == self.config.max_frames or (episode.over and self.config.task == "doom"):
                ended.append((lane, sum(episode.rewards[: episode.end]), steps))
                self.random[lane] = None
        return ended
