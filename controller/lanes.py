"""Where episodes are played: lanes in the real environment, with V and M, and lanes in M's dream."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from controller.policy import Controller
from controller.rollout import Step
from doom_rnn.dream import DreamBatch, Starts
from vae.model import sample
from world_models import tasks
from world_models.config import Config
from world_models.environments import make_env
from world_models.runs.arrays import require_finite
from world_models.runs.run import Run
from world_models.seeds import generator
from world_models.tasks.actions import finite
from world_models.training import use_one_core
from world_models.world_model import WorldModel

SEGMENT = 50  # steps of a dream between two tests of which have ended
KEEP = 0.95  # of the noise on C's outputs from step to step: a push lasts about 20 steps


def make_lanes(run: Run, config: Config | None = None, **options: Any) -> "RealLanes | DreamLanes":
    """The lanes of a rank, of the kind that `config.play_in` says, with the run's V and M.

    Their number is the configuration's, not that of the episodes at hand: the last bits of a batched sum depend on the
    size of the batch.

    Args:
        run: the run.
        config: its settings, with changes; None: without.
        options: of `RealLanes` or `DreamLanes`.
    """
    config = run.config if config is None else config
    use_one_core()
    if config.play_in == "dream":
        return DreamLanes(config, WorldModel.load_dream(run), Starts(run), config.lanes, **options)
    count = min(config.lanes, tasks.get(config.task).max_lanes or config.lanes)
    return RealLanes(config, WorldModel.load(run, config.dtype), count, **options)


def make_agent(config: Config, model: WorldModel, surprise: bool = False) -> Callable:
    """V, M and C together: the step of a batch of agents (`WorldModel.observe`), compiled.

    Returns a function (frames uint8 (B, 64, 64, 3), noise (B, Z), params (B, P), push (B, A), is_first (B, 1), h, c
    (B, U)) -> (action (B, A), h, c). With `surprise` it also returns M's surprise at z (B,), 0 at an episode's first
    step.
    """
    controller, vae = Controller.of(config), model.vae
    assert vae is not None

    def step(mu, logvar, noise, params, push, is_first, h, c):
        if config.z == "mean":
            noise = tf.zeros_like(noise)
        act = partial(controller.act, params, ops=keras.ops, push=push)
        results = model.observe(act, mu, logvar, noise, is_first, h, c)
        if surprise:
            results += (model.surprise(sample(mu, logvar, noise), h) * (1 - is_first[:, 0]),)
        return results

    # XLA also makes a lane's numbers independent of its place in the batch, to the bit. But it computes
    # bfloat16 convolutions in float32; TensorFlow itself has oneDNN do them, so they stay outside.
    compiled = config.dtype == "float32"
    if not compiled:
        step = tf.function(step, autograph=False, jit_compile=True)
    return tf.function(lambda frames, *rest: step(*vae.encode(frames), *rest), autograph=False, jit_compile=compiled)


class RealLanes:
    """Lanes in the real environment. One set of models; environments are kept from episode to episode.

    Args:
        config: the settings.
        model: V and M, with their weights.
        count: lanes (B).
        envs: the environments of other lanes, to be used by one set of lanes at a time; None: new ones.
        to_the_end: whether episodes go on to `max_frames` where the task does not stop at their end, as in recordings.
        surprise: whether M's surprise at z is computed.
    """

    def __init__(self, config: Config, model: WorldModel, count: int, envs=None, to_the_end=False, surprise=False):
        self.config, self.count = config, count
        task = tasks.get(config.task)
        self.goes_on = to_the_end and not task.stops_at_end
        self.agent = make_agent(config, model, surprise)
        self.envs: list[Any] = [make_env(config) for _ in range(count)] if envs is None else envs
        self.frames = np.zeros((count, 64, 64, 3), np.uint8)
        self.noise = np.zeros((count, config.z_size), np.float32)
        self.params = np.zeros((count, Controller.of(config).num_params), np.float32)
        self.push, self.pushes = np.zeros((count, task.action_size), np.float32), [0.0] * count
        self.is_first = np.ones((count, 1), np.float32)
        self.h = self.c = tf.zeros((count, config.rnn_units))
        self.random: dict[int, np.random.Generator] = {}  # by lane, of those that play
        self.streams: dict[int, np.random.Generator] = {}
        self.total, self.steps, self.over = np.zeros(count), np.zeros(count, int), np.zeros(count, bool)
        self.seeds = [0] * count

    def start(self, lane: int, params: np.ndarray, seed: int, noise: float = 0.0) -> None:
        """Begins an episode; `seed` decides the randomness of the environment, of z and of the noise on C's outputs."""
        self.frames[lane], _ = self.envs[lane].reset(seed=seed)
        self.params[lane], self.is_first[lane], self.seeds[lane] = params, 1, seed
        self.random[lane] = generator(seed, "noise of z")  # another stream than the track's, which has the seed itself
        self.streams[lane] = generator(seed, "noise of actions")
        self.push[lane], self.pushes[lane] = 0, noise
        self.total[lane], self.steps[lane], self.over[lane] = 0, 0, False

    def step(self, lane: int, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """A step of a lane's environment: (frame, reward, terminated, truncated). UserError that names the episode if
        the action (A,) or the reward is not finite: Box2D accepts NaN and would report a completed lap."""
        if not finite(action):
            require_finite(f"episode of seed {self.seeds[lane]}", {"C's action": action})
        frame, reward, terminated, truncated, _ = self.envs[lane].step(action)
        if not math.isfinite(reward):
            require_finite(f"episode of seed {self.seeds[lane]}", {"the reward": reward})
        return frame, reward, terminated, truncated

    def advance(self) -> Step:
        """One step of every lane that plays."""
        playing, count = sorted(self.random), self.count
        for lane in playing:
            self.random[lane].standard_normal(dtype=np.float32, out=self.noise[lane])
            if self.pushes[lane]:
                draw = self.streams[lane].standard_normal(self.push.shape[1], np.float32)
                self.push[lane] = KEEP * self.push[lane] + self.pushes[lane] * np.sqrt(1 - KEEP**2) * draw
        seen, is_first, h, c = self.frames, self.is_first, self.h, self.c
        action, self.h, self.c, *surprise = self.agent(seen, self.noise, self.params, self.push, is_first, h, c)
        action = action.numpy()
        self.frames, self.is_first = seen.copy(), np.zeros_like(is_first)
        reward, terminated, truncated = np.zeros(count), np.zeros(count, bool), np.zeros(count, bool)
        ended = []
        for lane in playing:
            self.frames[lane], reward[lane], terminated[lane], truncated[lane] = self.step(lane, action[lane])
            if not self.over[lane]:
                self.total[lane] += reward[lane]
            self.steps[lane] += 1
            self.over[lane] |= terminated[lane] or truncated[lane]
            if self.steps[lane] == self.config.max_frames or (self.over[lane] and not self.goes_on):
                ended.append((lane, float(self.total[lane]), int(self.steps[lane])))
                del self.random[lane]
        outcome = (action, reward, terminated, truncated, *surprise)
        return Step(playing, ended, self.total, None, seen, is_first, h, c, *outcome)

    def close(self) -> None:
        for env in self.envs:
            env.close()


class DreamLanes(DreamBatch):
    """Lanes in M's dream. Their return is the sum of M's rewards.

    All lanes advance together through compiled segments; the randomness of a segment is drawn beforehand, each lane's
    from its own seed. A lane whose dream ends inside a segment idles to its end.

    Args:
        config: the settings.
        model: M with its weights; V is not used.
        starts: the frames where dreams start.
        count: lanes (B).
        segment: steps of a segment (L).
    """

    def __init__(self, config: Config, model: WorldModel, starts: Starts, count: int, segment: int = SEGMENT):
        super().__init__(config, starts, count, segment)
        self.model, self.controller = model, Controller.of(config)
        self.params = np.zeros((count, self.controller.num_params), np.float32)
        self.total, self.playing = np.zeros((count, 1), np.float32), np.zeros((count, 1), bool)
        self.segment = tf.function(self._segment, jit_compile=True, autograph=False)

    def start(self, lane: int, params: np.ndarray, seed: int, noise: float = 0.0) -> None:
        """Begins a dream in a lane. There is no noise on C's outputs in a dream."""
        self.begin(lane, seed)
        self.params[lane], self.total[lane], self.playing[lane] = params, 0, True

    def _segment(self, z, params, is_first, h, c, steps, total, playing, uniform, noise, dropout):
        """The steps of a segment in all lanes; uniform and noise (L, B, Z), dropout (B, 4, Z + U) or None."""
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
        return tf.while_loop(lambda t, *_: t < self.length, step, loop, maximum_iterations=self.length)[1:]

    def advance(self) -> Step:
        """One segment of every lane."""
        playing = np.flatnonzero(self.playing).tolist()
        self.draw(playing)
        state = (self.z, self.params, self.is_first, self.h, self.c, self.steps, self.total, self.playing)
        draws = (each.transpose(1, 0, 2) for each in (self.uniform, self.noise))
        results = (value.numpy().copy() for value in self.segment(*state, *draws, self.dropout))
        self.z, self.is_first, self.h, self.c, self.steps, self.total, self.playing = results
        for lane in playing:
            numbers = {"z": self.z[lane], "the reward": self.total[lane]}
            require_finite(f"dream of seed {self.random[lane].seed}", numbers)
        ended = [lane for lane in playing if not self.playing[lane]]
        found = [(lane, float(self.total[lane, 0]), int(self.steps[lane, 0])) for lane in ended]
        return Step(playing, found, self.total[:, 0], z=self.z)

    def close(self) -> None:
        pass
