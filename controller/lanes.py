"""Where episodes are played: lanes in the real environment, with V and M, and lanes in M's dream."""

import math
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from controller.agent import make_agent, use_one_core
from controller.policy import Controller
from controller.rollout import Step
from doom_rnn.dream import Randomness, Starts
from world_models import tasks
from world_models.config import Config
from world_models.environments import make_env
from world_models.runs.arrays import require_finite
from world_models.runs.run import Run
from world_models.seeds import generator
from world_models.tasks.actions import finite
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
        return dream_lanes(run, config, **options)
    return RealLanes(config, WorldModel.load(run, config.dtype), lanes_of(config), **options)


def dream_lanes(run: Run, config: Config, **options: Any) -> "DreamLanes":
    """Lanes in the dream of a run's M; `options` as of `DreamLanes`."""
    use_one_core()
    return DreamLanes(config, WorldModel.load_dream(run), Starts(run), config.lanes, **options)


def lanes_of(config: Config) -> int:
    """How many lanes a rank has in the real environment: it can hold only few of some games."""
    return min(config.lanes, tasks.get(config.task).max_lanes or config.lanes)


class RealLanes:
    """Lanes in the real environment. One set of models; environments are kept from episode to episode.

    Args:
        config: the settings.
        model: V and M, with their weights.
        count: lanes (B).
        envs: the environments of other lanes, to be used by one set of lanes at a time; None: new ones.
        to_the_end: whether episodes go on to `max_frames` where the task does not stop at their end, as in recordings.
        pushed: whether there may be noise on C's outputs.
        surprise: whether M's surprise at z is computed.
    """

    def __init__(
        self,
        config: Config,
        model: WorldModel,
        count: int,
        envs: list | None = None,
        to_the_end: bool = False,
        pushed: bool = False,
        surprise: bool = False,
    ):
        self.config, self.count, self.pushed, self.surprise = config, count, pushed, surprise
        task = tasks.get(config.task)
        self.goes_on = to_the_end and not task.stops_at_end
        self.masked = config.vae_weight != 1 and to_the_end
        self.agent = make_agent(config, model, count, pushed, surprise)
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
        self.params[lane], self.is_first[lane] = params, 1
        self.seeds[lane] = seed
        self.random[lane] = generator(seed, "noise of z")  # another stream than the track's, which has the seed itself
        self.streams[lane], self.pushes[lane] = generator(seed, "noise of actions"), noise
        self.push[lane] = 0
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
        playing = sorted(self.random)
        for lane in playing:
            self.random[lane].standard_normal(dtype=np.float32, out=self.noise[lane])
            if self.pushed:
                draw = self.streams[lane].standard_normal(self.push.shape[1], np.float32)
                self.push[lane] = KEEP * self.push[lane] + self.pushes[lane] * np.sqrt(1 - KEEP**2) * draw
        masks = {lane: self.envs[lane].mask for lane in playing} if self.masked else None
        seen, is_first, h, c = self.frames, self.is_first, self.h, self.c
        inputs = (seen, self.noise, self.params, is_first, h, c, *([self.push] if self.pushed else []))
        action, self.h, self.c, *surprise = self.agent(*inputs)
        action = action.numpy()
        self.frames, self.is_first = seen.copy(), np.zeros_like(is_first)
        reward, terminated, truncated = np.zeros(self.count), np.zeros(self.count, bool), np.zeros(self.count, bool)
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
        outcome = (action, reward, terminated, truncated, surprise[0] if surprise else None)
        return Step(playing, ended, self.total, None, seen, masks, is_first, h, c, *outcome)

    def close(self) -> None:
        for env in self.envs:
            env.close()


class DreamLanes:
    """Lanes in M's dream. Their return is the sum of M's rewards.

    All lanes advance together through compiled segments; the randomness of a segment is drawn beforehand, each lane's
    from its own seed. A lane whose dream ends inside a segment idles to its end.

    Args:
        config: the settings.
        model: M with its weights; V is not used.
        starts: the frames where dreams start.
        count: lanes (B).
        segment: steps of a segment.
    """

    def __init__(self, config: Config, model: WorldModel, starts: Starts, count: int, segment: int | None = None):
        self.config, self.count, self.model, self.starts = config, count, model, starts
        self.length = SEGMENT if segment is None else segment
        self.controller = Controller.of(config)
        num_params = self.controller.num_params
        sizes = dict(z=config.z_size, params=num_params, is_first=1, h=config.rnn_units, c=config.rnn_units)
        self.state = {name: np.zeros((count, size), np.float32) for name, size in sizes.items()}
        self.steps, self.total = np.zeros((count, 1), np.int32), np.zeros((count, 1), np.float32)
        self.playing = np.zeros((count, 1), bool)
        self.seeds = [0] * count
        self.random: dict[int, Randomness] = {}  # by lane
        self.uniform = np.zeros((count, self.length, config.z_size), np.float32)
        self.noise = np.zeros_like(self.uniform)
        masks = (count, 4, config.z_size + config.rnn_units)
        self.dropout = np.zeros(masks, np.float32) if config.dream_dropout else None
        self.segment = tf.function(self._segment, jit_compile=True, autograph=False)

    def start(self, lane: int, params: np.ndarray, seed: int, noise: float = 0.0) -> None:
        """Begins a dream in a lane. There is no noise on C's outputs in a dream."""
        self.random[lane] = Randomness(seed)
        self.state["z"][lane] = self.random[lane].first(self.starts)
        self.state["h"][lane] = self.state["c"][lane] = 0
        self.state["params"][lane], self.state["is_first"][lane] = params, 1
        if self.dropout is not None:
            self.dropout[lane] = self.random[lane].dropout(self.config)
        self.seeds[lane] = seed
        self.steps[lane], self.total[lane], self.playing[lane] = 0, 0, True

    def first(self, seed: int) -> np.ndarray:
        """The first z (Z,) of the dream with a seed."""
        return Randomness(seed).first(self.starts)

    def _segment(self, z, params, is_first, h, c, steps, total, playing, uniform, noise, dropout):
        """The steps of a segment (L) in all lanes; uniform and noise (L, B, Z), dropout (B, 4, Z + U) or None."""
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
        for lane in np.flatnonzero(self.playing).tolist():
            self.random[lane].uniform.random(dtype=np.float32, out=self.uniform[lane])
            self.random[lane].noise.standard_normal(dtype=np.float32, out=self.noise[lane])
        before = self.playing.copy()
        randomness = (a.transpose(1, 0, 2) for a in (self.uniform, self.noise))
        results = self.segment(*self.state.values(), self.steps, self.total, self.playing, *randomness, self.dropout)
        for name, value in zip(("z", "is_first", "h", "c"), results[:4], strict=True):
            self.state[name] = value.numpy().copy()
        self.steps, self.total, self.playing = (value.numpy().copy() for value in results[4:])
        playing = np.flatnonzero(before).tolist()
        for lane in playing:
            z = {"z": self.state["z"][lane], "the reward": self.total[lane]}
            require_finite(f"dream of seed {self.seeds[lane]}", z)
        ended = np.flatnonzero(before & ~self.playing).tolist()
        found = [(lane, float(self.total[lane, 0]), int(self.steps[lane, 0])) for lane in ended]
        return Step(playing, found, self.total[:, 0], z=self.state["z"])

    def close(self) -> None:
        pass
