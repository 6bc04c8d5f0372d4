"""Dreams: M in the place of the environment (paper 4; doomrnn/doomrnn.py of the release).

A dream starts from a recorded frame, and M predicts one z after the other; with heads for the end of the episode or
the reward, those too.
`DreamEnv` is one dream as a Gymnasium environment, `doom_rnn.vector.VectorDreamEnv` a batch of them;
`controller.lanes.DreamLanes` plays whole populations in one compiled loop. All take `WorldModel.imagine`'s steps and
draw from the same streams, so the same seed and actions give the same dream.
"""

import math
from functools import cached_property, lru_cache
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle
from numpy.typing import ArrayLike

from doom_rnn.forks import require_own_tensorflow
from rnn.lstm import dropout_mask
from vae.model import VAE
from world_models import tasks
from world_models.config import Config, UserError
from world_models.pictures import to_uint8
from world_models.quiet import tf
from world_models.runs.arrays import FLOATS, UNREADABLE, open_npz, require_finite
from world_models.runs.run import Run
from world_models.tasks.actions import checked, one_hot
from world_models.world_model import WorldModel, load_vae


class Starts:
    """The frames where dreams start: recorded first frames, from initial_z.npz.

    Attributes:
        mu, logvar: float32 (N, Z).
    """

    def __init__(self, run: Run):
        path = run.need("initial_z.npz")
        sizes = dict.fromkeys(("mu", "logvar"), run.config.z_size)
        try:
            with open_npz(path, {name: (FLOATS, (None, size)) for name, size in sizes.items()}) as file:
                arrays = {name: file[name].astype(np.float32) for name in sizes}
            counts = {name: len(array) for name, array in arrays.items()}
            if not counts["mu"] or len(set(counts.values())) > 1:
                raise ValueError(f"rows of {counts}")
        except UNREADABLE as error:
            raise UserError(f"{path} holds no frames to start from ({error}); expected rows of {sizes}") from None
        with np.errstate(over="ignore"):
            require_finite(path, arrays | {"exp(logvar / 2)": np.exp(arrays["logvar"] / 2)})
        self.mu, self.logvar = arrays["mu"], arrays["logvar"]


class Randomness:
    """A dream's four streams, all from its seed: where it starts, which components, their noise, and dropout."""

    def __init__(self, seed: int):
        self.seed = seed
        self.start, self.uniform, self.noise = (np.random.default_rng([seed, k]) for k in range(3))

    def dropout(self, config: Config) -> np.ndarray | None:
        """The dream's dropout masks, (4, Z + U): of z and h, for each gate of M. None without dropout."""
        if not config.dream_dropout:
            return None
        shape = (4, config.z_size + config.rnn_units)
        return dropout_mask(np.random.default_rng([self.seed, 3]).random(shape, np.float32), config.dream_dropout)

    def first(self, starts: Starts) -> np.ndarray:
        """The first z (Z,): one of the stored frames, sampled. M's state before it is zero."""
        chosen = self.start.integers(len(starts.mu))
        noise = self.start.standard_normal(starts.mu.shape[1], np.float32)
        return starts.mu[chosen] + np.exp(starts.logvar[chosen] / 2) * noise


@lru_cache(maxsize=4)
def _step(path: Path, digest: str | None):
    """A step of a run's M, compiled once for all environments of a process that dream of the same weights, which
    `digest` tells from others."""
    model = WorldModel.load_dream(Run(path))

    def step(action, *args):
        return model.imagine(lambda z, c, h: action, *args)

    return tf.function(step, jit_compile=True, autograph=False)


class Dreams:
    """What the dreams of a run are made of. TensorFlow starts, and M is loaded, at their first step: a process that
    has only made an environment may still be forked.

    Args:
        run: a run folder with rnn.weights.h5 and initial_z.npz.
        temperature: tau; None: the run's.
        task: the task that the run must be of; None: any.

    Raises:
        UserError: if the run is of another task, a file is missing, or the temperature is not above 0; at the first
            step, if M does not fit.
    """

    def __init__(self, run: str | Path, temperature: float | None = None, task: str | None = None):
        self.run = Run(run)
        self.config = self.run.config
        if task is not None and self.config.task != task:
            raise UserError(f"{run} is a run of {self.config.task}; this environment dreams of {task}")
        self.task = tasks.get(self.config.task)
        self.set_temperature(self.config.temperature if temperature is None else temperature)
        self.starts = Starts(self.run)
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

    def actions(self, given: ArrayLike, count: int) -> np.ndarray:
        """The actions of `count` agents, as M is told of them: float32 (B, A), of choices 1 for the greatest number and
        0 for the others. UserError if they are not as many finite numbers."""
        actions = checked(given, count, len(self.task.low))
        return (one_hot(actions) if self.task.choice else actions).astype(np.float32)

    @cached_property
    def _compiled(self):
        require_own_tensorflow()
        return _step(self.run.path, self.run.digest("rnn.weights.h5"))

    @cached_property
    def _vae(self) -> VAE:
        return load_vae(self.run)

    def imagine(
        self,
        action: np.ndarray,
        z: np.ndarray,
        is_first: np.ndarray,
        h: np.ndarray,
        c: np.ndarray,
        uniform: np.ndarray,
        noise: np.ndarray,
        dropout: np.ndarray | None = None,
    ) -> tuple[np.ndarray, ...]:
        """A step of B dreams, given their actions (B, A): `WorldModel.imagine`'s results as new arrays. UserError if z
        or a reward is not finite: a dream of NaN has no end."""
        results = self._compiled(action, z, is_first, h, c, np.float32(self.temperature), uniform, noise, dropout)
        z, end, reward, h, c = (value.numpy() for value in results)
        if not math.isfinite(z.sum() + reward.sum()):  # at every step, so by a sum; the name of which then
            require_finite(f"a dream of {self.run}", {"z": z, "the reward": reward})
        return z, end, reward, h, c

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

    def __init__(
        self,
        run: str | Path,
        temperature: float | None = None,
        render_mode: str | None = None,
        task: str | None = None,
    ):
        EzPickle.__init__(self, run, temperature, render_mode, task)
        self.render_mode = render_mode
        self.dreams = Dreams(run, temperature, task)
        self.config = self.dreams.config
        self.metadata = {**self.metadata, "render_fps": self.dreams.task.fps}
        self.observation_space, self.action_space = self.dreams.spaces
        self.z: np.ndarray | None = None  # (1, Z); None before the first reset

    @property
    def temperature(self) -> float:
        return self.dreams.temperature

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if options and "temperature" in options:
            self.dreams.set_temperature(options["temperature"])
        self.random = Randomness(int(self.np_random.integers(1 << 31)) if seed is None else seed)
        self.z = self.random.first(self.dreams.starts)[None]
        self.h = self.c = np.zeros((1, self.config.rnn_units), np.float32)
        self.is_first, self.steps = np.ones((1, 1), np.float32), 0
        masks = self.random.dropout(self.config)
        self.dropout = None if masks is None else masks[None]
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.z is None:
            raise gym.error.ResetNeeded("a dream begins with reset(): call it before step()")
        action = self.dreams.actions(action, 1)
        shape = (1, self.config.z_size)
        uniform = self.random.uniform.random(shape, np.float32)
        noise = self.random.noise.standard_normal(shape, np.float32)
        results = self.dreams.imagine(action, self.z, self.is_first, self.h, self.c, uniform, noise, self.dropout)
        self.z, end, reward, self.h, self.c = results
        self.is_first = np.zeros_like(self.is_first)
        self.steps += 1
        terminated = bool(end[0, 0] > 0.5)
        truncated = not terminated and self.steps >= self.config.dream_limit
        return self._observe(), float(reward[0, 0]), terminated, truncated, {}

    def _observe(self) -> np.ndarray:
        assert self.z is not None
        return np.concatenate([self.z[0], self.c[0], self.h[0]])

    def render(self) -> np.ndarray | None:
        """The dreamed frame, uint8 (64, 64, 3)."""
        if self.render_mode != "rgb_array":
            return None
        if self.z is None:
            raise gym.error.ResetNeeded("a dream begins with reset(): call it before render()")
        return self.dreams.decode(self.z)[0]
