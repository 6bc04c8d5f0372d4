"""Dreams: M in the place of the environment (paper 4; doomrnn/doomrnn.py of the release).

A dream starts from a recorded first frame, and M predicts one z after the other; in Doom's it also predicts death.
`DreamEnv` is one dream as a Gymnasium environment; `controller.rollout.DreamLanes` plays whole populations in one
compiled loop. Both take `WorldModel.imagine`'s steps and draw from the same streams, so the same seed and actions
give the same dream.
"""

from pathlib import Path

import gymnasium as gym
import numpy as np
import tensorflow as tf

import tasks
from common.pictures import to_uint8
from common.run_dir import load, need
from config import Config, UserError
from world_model import WorldModel, load_rnn, load_vae


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


class DreamEnv(gym.Env):
    """One dream, in which any Gymnasium agent can train.

        gymnasium.make("doom_rnn:WorldModels/DoomRNN-v0", run="runs/doom", temperature=1.15)

    Args:
        run: a run folder with rnn.weights.h5 and initial_z.npz (and vae.weights.h5, to render).
        temperature: tau; `reset(options={"temperature": ...})` changes it.
        render_mode: None or "rgb_array" (z decoded by V, 64x64).
        task: the task that the run must be of; None: any.

    Observation: float32 (Z + 2 U,), [z, c, h]. Action: the task's. Reward of a step: the task's, 0 where a dream
    has none. Doom's reward is 1, and its dream terminates when M predicts death; CarRacing's has no reward and
    does not terminate. A dream is truncated after the run's `max_frames` steps.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 Gymnasium's own convention

    def __init__(
        self,
        run: str | Path,
        temperature: float | None = None,
        render_mode: str | None = None,
        task: str | None = None,
    ):
        self.run, self.render_mode = Path(run), render_mode
        self.config = load(self.run)
        if task is not None and self.config.task != task:
            raise UserError(f"{run} is a run of {self.config.task}; this environment dreams of {task}")
        self.task = tasks.get(self.config.task)
        self.metadata = {**self.metadata, "render_fps": self.task.fps}
        self.temperature = self._tau(self.config.temperature if temperature is None else temperature)
        self.mu, self.logvar = read_starts(self.run / "initial_z.npz", self.config)
        self.model = WorldModel(None, load_rnn(self.run, self.config))  # V is loaded where it is used, in `render`
        self._imagine = tf.function(self._step, jit_compile=True, autograph=False)
        units = self.config.rnn_units
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.config.z_size + 2 * units,), np.float32)
        low = np.array(self.task.low, np.float32)
        self.action_space = gym.spaces.Box(low, np.ones_like(low), dtype=np.float32)

    def _step(self, action, *args):
        return self.model.imagine(lambda z, c, h: action, *args)

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
        self.is_first, self.steps = np.ones((1, 1), np.float32), 0
        return self._observe(), {}

    def step(self, action: np.ndarray):
        action = np.asarray(action, np.float32).reshape(1, -1)
        shape = (1, self.config.z_size)
        uniform = self.random.uniform.random(shape, np.float32)
        noise = self.random.noise.standard_normal(shape, np.float32)
        tau = np.float32(self.temperature)
        results = self._imagine(action, self.z, self.is_first, self.h, self.c, tau, uniform, noise)
        self.z, end, self.h, self.c = (value.numpy() for value in results)
        self.is_first = np.zeros_like(self.is_first)
        self.steps += 1
        terminated = bool(end[0, 0] > 0.5)
        truncated = not terminated and self.steps >= self.config.max_frames
        return self._observe(), self.task.dream_reward or 0.0, terminated, truncated, {}

    def _observe(self) -> np.ndarray:
        return np.concatenate([self.z[0], self.c[0], self.h[0]])

    def render(self) -> np.ndarray | None:
        """The dreamed frame, uint8 (64, 64, 3)."""
        if self.render_mode != "rgb_array":
            return None
        if self.model.vae is None:
            self.model.vae = load_vae(self.run, self.config)
        return to_uint8(self.model.vae.decode(self.z).numpy())[0]
