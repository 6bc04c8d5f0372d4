"""Where episodes are played: lanes in the real environment, with V and M, and lanes in M's dream."""

import copy
import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from controller.agent import make_agent, use_one_core
from controller.policy import Controller
from controller.rollout import Lanes
from doom_rnn.dream import Randomness, Starts
from world_models import tasks
from world_models.config import Config
from world_models.environments import make_env
from world_models.runs.arrays import require_finite
from world_models.seeds import generator
from world_models.tasks.actions import finite
from world_models.world_model import WorldModel

SEGMENT = 50  # steps of a dream between two tests of which have ended


def make_lanes(run: Path, config: Config) -> Lanes:
    """The lanes of a rank, of the kind that `config.env` says, with the run's V and M.

    Their number is the configuration's, not that of the episodes at hand: the last bits of a batched sum
    depend on the batch's size.
    """
    use_one_core()
    if config.env == "dream":
        return DreamLanes(config, WorldModel.load_dream(run, config), Starts(run, config), config.lanes)
    return make_real_lanes(run, config, RealLanes)


def make_real_lanes(run: Path, config: Config, kind: Callable):
    """Lanes of a kind, kind(config, model, count), in the real environment."""
    use_one_core()
    return kind(config, WorldModel.load(run, config, config.dtype), lanes_of(config))


def lanes_of(config: Config) -> int:
    """How many lanes a rank has in the real environment: of some games it can hold only few."""
    return min(config.lanes, tasks.get(config.task).max_lanes or config.lanes)


def in_float32(lanes: Lanes, run: Path) -> Lanes:
    """The same lanes and environments with V's encoder in float32, in which all scores are; use one after the other."""
    if lanes.config.env == "dream" or lanes.config.dtype == "float32":
        return lanes
    precise = copy.copy(lanes)
    precise.config = dataclasses.replace(lanes.config, dtype="float32")
    precise.agent = make_agent(precise.config, WorldModel.load(run, precise.config), lanes.count)
    return precise


class RealLanes:
    """Lanes in the real environment. One set of models; environments are kept from episode to episode.

    Args:
        config: the run's.
        model: V and M, with their weights.
        count: lanes.
    """

    def __init__(self, config: Config, model: WorldModel, count: int):
        self.config, self.count = config, count
        self.agent = make_agent(config, model, count)
        self.envs = [make_env(config) for _ in range(count)]
        self.frames = np.zeros((count, 64, 64, 3), np.uint8)
        self.noise = np.zeros((count, config.z_size), np.float32)
        self.params = np.zeros((count, Controller.of(config).num_params), np.float32)
        self.is_first = np.ones((count, 1), np.float32)
        self.h = self.c = tf.zeros((count, config.rnn_units))
        self.random: list[np.random.Generator | None] = [None] * count
        self.total, self.steps = np.zeros(count), np.zeros(count, int)
        self.seeds = [0] * count
        self.patience, self.idle = np.zeros(count, int), np.zeros(count, int)  # frames allowed and spent without reward
        self.idle_reward = tasks.get(config.task).idle_reward

    def start(self, lane: int, params: np.ndarray, seed: int, patience: int = 0) -> None:
        """Begins an episode; `seed` decides the environment's randomness and the noise of z.

        With a `patience` it ends after so many frames without a positive reward, and its return is completed as if the
        agent stood still from there to the last frame: comparable with the return of an episode played to the end.
        """
        self.frames[lane], _ = self.envs[lane].reset(seed=seed)
        self.params[lane], self.is_first[lane] = params, 1
        self.seeds[lane] = seed
        self.random[lane] = generator(seed, "noise of z")  # not the track's stream, which has the seed itself
        self.total[lane], self.steps[lane] = 0, 0
        self.patience[lane], self.idle[lane] = patience, 0

    def step(self, lane: int, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """A step of a lane's environment: (frame, reward, terminated, truncated). UserError naming the episode if the
        action (A,) or the reward is not finite: to the game's physics NaN may be a triumph."""
        if not finite(action):
            require_finite(f"episode of seed {self.seeds[lane]}", {"C's action": action})
        frame, reward, terminated, truncated, _ = self.envs[lane].step(action)
        if not math.isfinite(reward):
            require_finite(f"episode of seed {self.seeds[lane]}", {"the reward": reward})
        return frame, reward, terminated, truncated

    def advance(self) -> list[tuple[int, float, int]]:
        """One step of every lane that plays; (lane, return, steps) of those whose episode it ended."""
        playing = [lane for lane in range(self.count) if self.random[lane] is not None]
        for lane in playing:
            self.random[lane].standard_normal(dtype=np.float32, out=self.noise[lane])
        action, self.h, self.c = self.agent(self.frames, self.noise, self.params, self.is_first, self.h, self.c)
        action = action.numpy()
        self.is_first[:] = 0
        ended = []
        for lane in playing:
            self.frames[lane], reward, terminated, truncated = self.step(lane, action[lane])
            self.total[lane] += reward
            self.steps[lane] += 1
            self.idle[lane] = 0 if reward > 0 else self.idle[lane] + 1
            over = terminated or truncated or self.steps[lane] == self.config.max_frames
            if not over and self.patience[lane] and self.idle[lane] >= self.patience[lane]:
                over = True
                self.total[lane] += self.idle_reward * (self.config.max_frames - self.steps[lane])
            if over:
                ended.append((lane, float(self.total[lane]), int(self.steps[lane])))
                self.random[lane] = None
        return ended

    def close(self) -> None:
        for env in self.envs:
            env.close()


class DreamLanes:
    """Lanes in M's dream. Their return is the sum of M's rewards.

    All lanes advance together through compiled segments of SEGMENT steps; the randomness of a segment is drawn
    beforehand, each lane's from its own seed. A lane whose dream ends inside a segment idles to its end.

    Args:
        config: the run's.
        model: M with its weights; V is not used.
        starts: the frames where dreams start.
        count: lanes.
    """

    def __init__(self, config: Config, model: WorldModel, starts: Starts, count: int):
        self.config, self.count, self.model, self.starts = config, count, model, starts
        self.controller = Controller.of(config)
        num_params = self.controller.num_params
        sizes = dict(z=config.z_size, params=num_params, is_first=1, h=config.rnn_units, c=config.rnn_units)
        self.state = {name: np.zeros((count, size), np.float32) for name, size in sizes.items()}
        self.steps, self.total = np.zeros((count, 1), np.int32), np.zeros((count, 1), np.float32)
        self.playing = np.zeros((count, 1), bool)
        self.seeds = [0] * count
        self.random: list[Randomness | None] = [None] * count
        self.uniform = np.zeros((count, SEGMENT, config.z_size), np.float32)
        self.noise = np.zeros_like(self.uniform)
        masks = (count, 4, config.z_size + config.rnn_units)
        self.dropout = np.zeros(masks, np.float32) if config.dream_dropout else None
        self.segment = tf.function(self._segment, jit_compile=True, autograph=False)

    def start(self, lane: int, params: np.ndarray, seed: int, patience: int = 0) -> None:
        """Begins a dream in a lane, which is dreamed to its end whatever the `patience`."""
        self.random[lane] = Randomness(seed)
        for name, value in self.random[lane].first(self.starts).items():
            self.state[name][lane] = value
        self.state["params"][lane], self.state["is_first"][lane] = params, self.starts.is_first
        if self.dropout is not None:
            self.dropout[lane] = self.random[lane].dropout(self.config)
        self.seeds[lane] = seed
        self.steps[lane], self.total[lane], self.playing[lane] = 0, 0, True

    def _segment(self, z, params, is_first, h, c, steps, total, playing, uniform, noise, dropout):
        """SEGMENT steps of all lanes; uniform and noise (SEGMENT, B, Z), dropout (B, 4, Z + U) or None."""
        config = self.config
        act = partial(self.controller.act, params, ops=keras.ops)

        def step(t, z, is_first, h, c, steps, total, playing):
            draws = (config.temperature, uniform[t], noise[t], dropout)
            z, end, reward, h, c = self.model.imagine(act, z, is_first, h, c, *draws)
            steps = steps + tf.cast(playing, tf.int32)
            total = total + tf.where(playing, reward, 0.0)
            playing = playing & (end < 0.5) & (steps < config.dream_limit)
            return t + 1, z, tf.zeros_like(is_first), h, c, steps, total, playing

        loop = (0, z, is_first, h, c, steps, total, playing)
        return tf.while_loop(lambda t, *_: t < SEGMENT, step, loop, maximum_iterations=SEGMENT)[1:]

    def advance(self) -> list[tuple[int, float, int]]:
        """SEGMENT steps of every lane; (lane, return, steps) of the dreams that ended in them."""
        for lane in np.flatnonzero(self.playing):
            self.random[lane].uniform.random(dtype=np.float32, out=self.uniform[lane])
            self.random[lane].noise.standard_normal(dtype=np.float32, out=self.noise[lane])
        before = self.playing.copy()
        randomness = (a.transpose(1, 0, 2) for a in (self.uniform, self.noise))
        results = self.segment(*self.state.values(), self.steps, self.total, self.playing, *randomness, self.dropout)
        for name, value in zip(("z", "is_first", "h", "c"), results[:4], strict=True):
            self.state[name] = value.numpy().copy()
        self.steps, self.total, self.playing = (value.numpy().copy() for value in results[4:])
        for lane in np.flatnonzero(before):
            z = {"z": self.state["z"][lane], "the reward": self.total[lane]}
            require_finite(f"dream of seed {self.seeds[lane]}", z)
        ended = np.flatnonzero(before & ~self.playing)
        return [(int(lane), float(self.total[lane, 0]), int(self.steps[lane, 0])) for lane in ended]

    def close(self) -> None:
        pass
