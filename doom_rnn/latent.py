"""The game as an agent of dreams sees it: through V and M."""

from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle

from doom_rnn.env import Dreams
from doom_rnn.forks import require_own_tensorflow
from vae.model import sample
from world_models.environments import make_env
from world_models.quiet import tf
from world_models.seeds import generator
from world_models.world_model import WorldModel


class LatentEnv(gym.Env, EzPickle):
    """A run's real environment, with the dream's observations and actions: what was trained in the dream plays here.

        gymnasium.make("doom_rnn:WorldModels/Latent-v0", run="runs/doom")

    Args:
        run: a run folder with V and M.
        render_mode: None or "rgb_array", as in the task's environment.

    Observation: float32 (Z + 2 U,), [z, c, h], h and c from before M has seen z. Action, reward and end: the task's;
    truncated after the run's `max_frames` steps. An episode is decided by its seed and actions.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 Gymnasium's own convention
    action_space: gym.spaces.Box

    def __init__(self, run: str | Path, render_mode: str | None = None):
        EzPickle.__init__(self, run, render_mode)
        self.dreams = Dreams(run)
        self.config, self.render_mode = self.dreams.config, render_mode
        self.metadata = {**self.metadata, "render_fps": self.dreams.task.fps}
        self.observation_space, self.action_space = self.dreams.spaces
        self.env = make_env(self.config, render_mode)
        self.steps: int | None = None  # of the episode; None before the first reset

    @cached_property
    def _models(self):
        """V's part of a step and M's, compiled."""
        require_own_tensorflow()
        model = WorldModel.load(self.dreams.run)
        vae = model.vae
        assert vae is not None
        see = tf.function(lambda frame, noise: sample(*vae.encode(frame), noise), jit_compile=True)
        return see, tf.function(model.rnn.step, jit_compile=True)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        seed = int(self.np_random.integers(1 << 31)) if seed is None else seed
        frame, info = self.env.reset(seed=seed)
        self.random, self.steps = generator(seed, "noise of z"), 0  # as in controller.lanes.RealLanes
        self.is_first = np.ones((1, 1), np.float32)
        self.h = self.c = np.zeros((1, self.config.rnn_units), np.float32)
        return self._observe(frame), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.steps is None:
            raise gym.error.ResetNeeded("an episode begins with reset(): call it before step()")
        action = self.dreams.actions(action)
        h, c = self._models[1](self.z, action, self.is_first, (self.h, self.c))
        self.h, self.c, self.is_first = h.numpy(), c.numpy(), np.zeros_like(self.is_first)
        frame, reward, terminated, truncated, info = self.env.step(action[0])
        self.steps += 1
        truncated = truncated or (not terminated and self.steps >= self.config.max_frames)
        return self._observe(frame), float(reward), terminated, truncated, info

    def _observe(self, frame: np.ndarray) -> np.ndarray:
        noise = self.random.standard_normal((1, self.config.z_size), np.float32)
        if self.config.z == "mean":
            noise[:] = 0
        self.z = self._models[0](frame[None], noise).numpy()
        return np.concatenate([self.z[0], self.c[0], self.h[0]])

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()
