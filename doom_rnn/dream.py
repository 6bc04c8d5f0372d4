"""Dreams: M in the place of the game (paper 4; doomrnn/doomrnn.py of the release).

A dream starts from a recorded first frame, and M foretells one z after the other. In Doom's, M also foretells
death. `Dream` holds the rules; `DreamEnv` is one dream as a Gymnasium environment, and batch.py plays whole
populations in one compiled loop. Both draw from the same streams, so the same seed and actions give the same
dream.
"""

from pathlib import Path

import gymnasium as gym
import numpy as np
import tensorflow as tf

from common.pictures import to_uint8
from common.run_dir import load, need
from config import Config, UserError, action_size
from rnn import mdn
from world_model import load_rnn, load_vae


def read_starts(path: Path, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """(mu, logvar), each float32 (N, Z), of the first frames where dreams may start."""
    need(path, f"python train_rnn.py --run {path.parent}")
    try:
        with np.load(path) as file:
            mu, logvar = file["mu"], file["logvar"]
    except Exception as error:
        raise UserError(f"{path} does not hold first frames: {error}") from None
    if mu.shape != logvar.shape or mu.ndim != 2 or mu.shape[1] != config.z_size:
        raise UserError(f"{path} holds mu {mu.shape} and logvar {logvar.shape}; expected (N, {config.z_size})")
    return mu, logvar


class Randomness:
    """A dream's three streams, all from its seed: where it starts, which components, and their noise."""

    def __init__(self, seed: int):
        self.start, self.uniform, self.noise = (np.random.default_rng([seed, k]) for k in range(3))

    def first(self, mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
        """The first z, (Z,): one of the stored frames, sampled."""
        chosen = self.start.integers(len(mu))
        noise = self.start.standard_normal(mu.shape[1], np.float32)
        return mu[chosen] + np.exp(logvar[chosen] / 2) * noise


class Dream:
    """One step of a batch of dreams.

    Args:
        config: the run's: task, sizes, and `max_frames`.
        rnn: M with its weights.
    """

    def __init__(self, config: Config, rnn):
        self.config, self.rnn = config, rnn

    def step(self, z, action, restart, h, c, tau, uniform, noise):
        """M dreams on: z (B, Z), action (B, A), restart (B, 1), h and c (B, U), randomness (B, Z) each.

        Returns the next z, death (B, 1) (1.0 where the restart logit is above 0: a cut-off, not a draw; always
        0.0 in CarRacing, whose M foretells none), and the next h, c.
        """
        h, c = self.rnn.step(z, action, restart, h, c)
        output = self.rnn.head(h)
        z = mdn.sample(*self.rnn.split(output), tau, uniform, noise)
        death = tf.zeros_like(restart)
        if self.rnn.flags:
            death = tf.cast(self.rnn.restart_logit(output) > 0, tf.float32)
        return z, death, h, c


class DreamEnv(gym.Env):
    """One dream, in which any Gymnasium agent can train.

        gymnasium.make("doom_rnn:WorldModels/DoomRNN-v0", run="runs/doom", temperature=1.15)

    Args:
        run: a run folder with rnn.weights.h5 and initial_z.npz (and vae.weights.h5, to render).
        temperature: tau; `reset(options={"temperature": ...})` changes it.
        render_mode: None or "rgb_array" (z decoded by V, 64x64).

    Observation: float32 (Z + 2 U,), [z, c, h]. Action: the task's. Doom's reward is 1 a step; it terminates when
    M foretells death. CarRacing's has no reward, and M foretells no end of it. Both truncate after the run's
    `max_frames` steps.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 35}  # noqa: RUF012 Gymnasium's own convention
    task = "doom"

    def __init__(self, run: str | Path, temperature: float | None = None, render_mode: str | None = None):
        self.run, self.render_mode = Path(run), render_mode
        self.config = load(self.run)
        if self.config.task != self.task:
            raise UserError(f"{run} is a run of {self.config.task}; {type(self).__name__} dreams of {self.task}")
        self.temperature = self._tau(self.config.temperature if temperature is None else temperature)
        self.mu, self.logvar = read_starts(self.run / "initial_z.npz", self.config)
        self.rnn = load_rnn(self.run, self.config)
        self._step = tf.function(Dream(self.config, self.rnn).step, jit_compile=True, autograph=False)
        self._vae = None
        units, actions = self.config.rnn_units, action_size(self.task)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.config.z_size + 2 * units,), np.float32)
        low = -np.ones(actions, np.float32)
        if self.task == "carracing":
            low[1:] = 0
        self.action_space = gym.spaces.Box(low, np.ones(actions, np.float32), dtype=np.float32)

    @staticmethod
    def _tau(value: float) -> float:
        if not value > 0:
            raise UserError(f"temperature: expected a number above 0, got {value}")
        return float(value)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.temperature = self._tau((options or {}).get("temperature", self.temperature))
        self.random = Randomness(int(self.np_random.integers(1 << 31)) if seed is None else seed)
        self.z = self.random.first(self.mu, self.logvar)[None]
        self.h = self.c = np.zeros((1, self.config.rnn_units), np.float32)
        self.restart, self.steps = np.ones((1, 1), np.float32), 0
        return self._observe(), {}

    def step(self, action: np.ndarray):
        action = np.asarray(action, np.float32).reshape(1, -1)
        shape = (1, self.config.z_size)
        uniform = self.random.uniform.random(shape, np.float32)
        noise = self.random.noise.standard_normal(shape, np.float32)
        tau = np.float32(self.temperature)
        results = self._step(self.z, action, self.restart, self.h, self.c, tau, uniform, noise)
        self.z, death, self.h, self.c = (value.numpy() for value in results)
        self.restart = np.zeros_like(self.restart)
        self.steps += 1
        terminated = bool(death[0, 0] > 0.5)
        truncated = not terminated and self.steps >= self.config.max_frames
        return self._observe(), self._reward(), terminated, truncated, {}

    def _reward(self) -> float:
        return 1.0

    def _observe(self) -> np.ndarray:
        return np.concatenate([self.z[0], self.c[0], self.h[0]])

    def render(self) -> np.ndarray | None:
        """The dreamed frame, uint8 (64, 64, 3)."""
        if self.render_mode != "rgb_array":
            return None
        if self._vae is None:
            self._vae = load_vae(self.run, self.config)
        return to_uint8(self._vae.decode(self.z).numpy())[0]


class CarRacingDreamEnv(DreamEnv):
    """CarRacing's dream, to watch an agent drive in: the reward is 0, as the release's M foretells none."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012
    task = "carracing"

    def _reward(self) -> float:
        return 0.0


DREAMS = {"doom": DreamEnv, "carracing": CarRacingDreamEnv}
