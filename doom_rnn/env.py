"""A run's dreams as environments, in which any agent can train. `doom_rnn.vector` has a batch of them."""

import math
from functools import cached_property, lru_cache
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle
from numpy.typing import ArrayLike

from doom_rnn.dream import DreamBatch, Starts
from doom_rnn.forks import require_own_tensorflow
from vae.model import VAE
from world_models import tasks
from world_models.config import UserError
from world_models.pictures import to_uint8
from world_models.quiet import tf
from world_models.runs.arrays import require_finite
from world_models.runs.run import Run
from world_models.tasks.actions import checked, one_hot
from world_models.world_model import WorldModel, load_vae

DRAWN = 50  # steps for which a dream's randomness is drawn at once


@lru_cache(maxsize=4)
def _step(path: Path, digest: str | None):
    """A step of a run's M, compiled once for all environments of a process that dream of the same weights, which
    `digest` tells from others."""
    model = WorldModel.load_dream(Run(path))

    def step(action, *args):
        return model.imagine(lambda z, c, h: action, *args)

    return tf.function(step, jit_compile=True, autograph=False)


class Dreams(DreamBatch):
    """A run's dreams, for agents of any kind. TensorFlow starts, and M is loaded, at their first step: a process that
    has only made an environment may still be forked.

    Args:
        run: a run folder with rnn.weights.h5 and initial_z.npz.
        temperature: tau; None: the run's.
        task: the task that the run must be of; None: any.
        count: dreams (B).

    Raises:
        UserError: if the run is of another task, a file is missing, or the temperature is not above 0; at the first
            step, if M does not fit.
    """

    def __init__(self, run: str | Path, temperature: float | None = None, task: str | None = None, count: int = 1):
        self.run = Run(run)
        config = self.run.config
        if task is not None and config.task != task:
            raise UserError(f"{run} is a run of {config.task}; this environment dreams of {task}")
        self.task = tasks.get(config.task)
        self.set_temperature(config.temperature if temperature is None else temperature)
        super().__init__(config, Starts(self.run), count, DRAWN)
        self.run.need("rnn.weights.h5")

    def set_temperature(self, value: float) -> None:
        if not 0 < value < np.inf:
            raise UserError(f"temperature: expected a number above 0, got {value}")
        self.temperature = float(value)

    @property
    def spaces(self) -> tuple[gym.spaces.Box, gym.spaces.Box]:
        """Of observations, [z, c, h] (Z + 2 U,), and of actions (A,)."""
        low = np.array(self.task.low, np.float32)
        seen = gym.spaces.Box(-np.inf, np.inf, (self.config.z_size + 2 * self.config.rnn_units,), np.float32)
        return seen, gym.spaces.Box(low, np.ones_like(low), dtype=np.float32)

    def actions(self, given: ArrayLike) -> np.ndarray:
        """The actions of B agents, as M is told of them: float32 (B, A), of choices 1 for the greatest number and 0 for
        the others. UserError if they are not as many finite numbers."""
        actions = checked(given, self.count, len(self.task.low))
        return (one_hot(actions) if self.task.choice else actions).astype(np.float32)

    @cached_property
    def _compiled(self):
        require_own_tensorflow()
        return _step(self.run.path, self.run.digest("rnn.weights.h5"))

    @cached_property
    def _vae(self) -> VAE:
        return load_vae(self.run)

    def imagine(self, action, z, is_first, h, c, uniform, noise, dropout=None) -> tuple[np.ndarray, ...]:
        """A step of dreams, given their actions (B, A): `WorldModel.imagine`'s results as new arrays. UserError if z or
        a reward is not finite: a dream of NaN has no end."""
        results = self._compiled(action, z, is_first, h, c, np.float32(self.temperature), uniform, noise, dropout)
        z, end, reward, h, c = (value.numpy() for value in results)
        if not math.isfinite(z.sum() + reward.sum()):  # at every step, so by a sum; the name of which then
            require_finite(f"a dream of {self.run}", {"z": z, "the reward": reward})
        return z, end, reward, h, c

    def step(self, actions: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A step of all dreams, given the actions of their agents: reward, terminated, truncated (B,)."""
        if len(self.random) < self.count:
            raise gym.error.ResetNeeded("a dream begins with reset(): call it before step()")
        told, at = self.actions(actions), self.steps[:, 0] % self.length
        self.draw(np.flatnonzero(at == 0).tolist())
        uniform, noise = (each[np.arange(self.count), at] for each in (self.uniform, self.noise))
        results = self.imagine(told, self.z, self.is_first, self.h, self.c, uniform, noise, self.dropout)
        self.z, end, reward, self.h, self.c = results
        self.is_first[:] = 0
        self.steps += 1
        terminated = end[:, 0] > 0.5
        return reward[:, 0], terminated, ~terminated & (self.steps[:, 0] >= self.config.dream_limit)

    def observe(self) -> np.ndarray:
        """What agents see, [z, c, h] (B, Z + 2 U)."""
        return np.concatenate([self.z, self.c, self.h], axis=1)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """z (B, Z) as V's frames, uint8 (B, 64, 64, 3)."""
        return to_uint8(self._vae.decode(z).numpy())


class DreamEnv(gym.Env, EzPickle):
    """One dream, in which any Gymnasium agent can train.

        gymnasium.make("doom_rnn:WorldModels/DoomRNN-v0", run="runs/doom", temperature=1.15)

    Args:
        run: a run folder with rnn.weights.h5 and initial_z.npz (and vae.weights.h5, to render).
        temperature: tau; `reset(options={"temperature": ...})` changes it.
        render_mode: None or "rgb_array" (z decoded by V, 64x64).
        task: the task that the run must be of; None: any.

    Observation: float32 (Z + 2 U,), [z, c, h]. Action: the task's. Reward of a step: what M's reward head predicts;
    without one the task's, 1 in Doom's dream and 0 in CarRacing's. A dream terminates when M predicts the end, if it
    has a head for it, and is truncated after the run's `dream_frames` or else `max_frames` steps. At the run's
    `dream_dropout` each dream has its own dropout masks.

    It is pickled as its arguments: a copy, or one in another process, starts again.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 Gymnasium's own convention
    action_space: gym.spaces.Box

    def __init__(self, run: str | Path, temperature: float | None = None, render_mode: str | None = None, task=None):
        EzPickle.__init__(self, run, temperature, render_mode, task)
        self.render_mode, self.dreams = render_mode, Dreams(run, temperature, task)
        self.metadata = {**self.metadata, "render_fps": self.dreams.task.fps}
        self.observation_space, self.action_space = self.dreams.spaces

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if options and "temperature" in options:
            self.dreams.set_temperature(options["temperature"])
        self.dreams.begin(0, int(self.np_random.integers(1 << 31)) if seed is None else seed)
        return self.dreams.observe()[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward, terminated, truncated = (value.item() for value in self.dreams.step(action))
        return self.dreams.observe()[0], reward, terminated, truncated, {}

    def render(self) -> np.ndarray | None:
        """The dreamed frame, uint8 (64, 64, 3)."""
        if self.render_mode != "rgb_array":
            return None
        if not self.dreams.random:
            raise gym.error.ResetNeeded("a dream begins with reset(): call it before render()")
        return self.dreams.decode(self.dreams.z)[0]
