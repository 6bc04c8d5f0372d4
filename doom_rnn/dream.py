"""Dreams: M in the place of the environment (paper 4; doomrnn/doomrnn.py of the release).

A dream starts from a recorded frame, and M predicts one z after the other; with heads for the end of the episode or
the reward, those too.
`DreamEnv` is one dream as a Gymnasium environment; `controller.rollout.DreamLanes` plays whole populations in one
compiled loop. Both take `WorldModel.imagine`'s steps and draw from the same streams, so the same seed and actions
give the same dream.
"""

from pathlib import Path

import gymnasium as gym
import numpy as np
import tensorflow as tf

import tasks
from common.arrays import open_npz
from common.integrity import UNREADABLE, check_made_from, read_record, require_finite
from common.pictures import to_uint8
from common.run_dir import load, need
from config import Config, UserError
from world_model import WorldModel, load_vae


class Starts:
    """The frames where dreams start.

    Args:
        run: folder with initial_z.npz, recorded first frames; or, for config.dream_starts "any", dream_starts.npz,
            frames from anywhere in the recordings with M's state before each.
        config: the run's.

    Attributes:
        mu, logvar: float32 (N, Z). h, c: (N, U), zero at first frames.
        is_first: 1.0 if these are episodes' first frames, else 0.0.
    """

    FILES = {"first": "initial_z.npz", "any": "dream_starts.npz"}  # noqa: RUF012 never changed

    def __init__(self, run: Path, config: Config):
        kind = config.dream_starts
        path = need(run / self.FILES[kind], f"python train_rnn.py --run {run}")
        shapes = {"mu": config.z_size, "logvar": config.z_size}
        if config.dream_starts == "any":
            shapes |= {"h": config.rnn_units, "c": config.rnn_units}
        try:
            with open_npz(path) as file:
                arrays = {name: file[name].astype(np.float32) for name in shapes}
                made_from = read_record(file)
        except UNREADABLE as error:
            raise UserError(f"{path} does not hold frames to start from: {error}") from None
        found = {name: array.shape for name, array in arrays.items()}
        if found != {name: (len(arrays["mu"]), size) for name, size in shapes.items()}:
            raise UserError(f"{path} holds {found}; expected rows of {shapes}")
        check_made_from(path, made_from, run, ("vae",) if kind == "first" else ("vae", "rnn"))
        with np.errstate(over="ignore"):
            require_finite(path, arrays | {"exp(logvar / 2)": np.exp(arrays["logvar"] / 2)})
        self.mu, self.logvar = arrays["mu"], arrays["logvar"]
        zeros = np.zeros((len(self.mu), config.rnn_units), np.float32)
        self.h, self.c = arrays.get("h", zeros), arrays.get("c", zeros)
        self.is_first = float(config.dream_starts == "first")


class Randomness:
    """A dream's three streams, all from its seed: where it starts, which components, and their noise."""

    def __init__(self, seed: int):
        self.start, self.uniform, self.noise = (np.random.default_rng([seed, k]) for k in range(3))

    def first(self, starts: Starts) -> dict[str, np.ndarray]:
        """The first z (Z,), one of the stored frames, sampled; and M's h and c (U,) before it."""
        chosen = self.start.integers(len(starts.mu))
        noise = self.start.standard_normal(starts.mu.shape[1], np.float32)
        z = starts.mu[chosen] + np.exp(starts.logvar[chosen] / 2) * noise
        return {"z": z, "h": starts.h[chosen], "c": starts.c[chosen]}


class DreamEnv(gym.Env):
    """One dream, in which any Gymnasium agent can train.

        gymnasium.make("doom_rnn:WorldModels/DoomRNN-v0", run="runs/doom", temperature=1.15)

    Args:
        run: a run folder with rnn.weights.h5 and initial_z.npz (and vae.weights.h5, to render).
        temperature: tau; `reset(options={"temperature": ...})` changes it.
        render_mode: None or "rgb_array" (z decoded by V, 64x64).
        task: the task that the run must be of; None: any.

    Observation: float32 (Z + 2 U,), [z, c, h]. Action: the task's. Reward of a step: what M's reward head predicts;
    without one the task's, 1 in Doom's dream and 0 in CarRacing's. A dream terminates when M predicts the end, if it
    has a head for it, and is truncated after the run's `dream_frames` or else `max_frames` steps.
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
        self.starts = Starts(self.run, self.config)
        self.model = WorldModel.load_dream(self.run, self.config)  # V is loaded where it is used, in `render`
        self._imagine = tf.function(self._step, jit_compile=True, autograph=False)
        units = self.config.rnn_units
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.config.z_size + 2 * units,), np.float32)
        low = np.array(self.task.low, np.float32)
        self.action_space = gym.spaces.Box(low, np.ones_like(low), dtype=np.float32)

    def _step(self, action, *args):
        return self.model.imagine(lambda z, c, h: action, *args)

    @staticmethod
    def _tau(value: float) -> float:
        if not 0 < value < np.inf:
            raise UserError(f"temperature: expected a number above 0, got {value}")
        return float(value)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.temperature = self._tau((options or {}).get("temperature", self.temperature))
        self.random = Randomness(int(self.np_random.integers(1 << 31)) if seed is None else seed)
        first = self.random.first(self.starts)
        self.z, self.h, self.c = (first[name][None] for name in "zhc")
        self.is_first, self.steps = np.full((1, 1), self.starts.is_first, np.float32), 0
        return self._observe(), {}

    def step(self, action: np.ndarray):
        action = np.asarray(action, np.float32).reshape(1, -1)
        if not np.isfinite(action).all():
            raise UserError(f"action: expected finite numbers, got {action[0]}")
        shape = (1, self.config.z_size)
        uniform = self.random.uniform.random(shape, np.float32)
        noise = self.random.noise.standard_normal(shape, np.float32)
        tau = np.float32(self.temperature)
        results = self._imagine(action, self.z, self.is_first, self.h, self.c, tau, uniform, noise)
        self.z, end, reward, self.h, self.c = (value.numpy() for value in results)
        self.is_first = np.zeros_like(self.is_first)
        self.steps += 1
        terminated = bool(end[0, 0] > 0.5)
        truncated = not terminated and self.steps >= self.config.dream_limit
        return self._observe(), float(reward[0, 0]), terminated, truncated, {}

    def _observe(self) -> np.ndarray:
        return np.concatenate([self.z[0], self.c[0], self.h[0]])

    def render(self) -> np.ndarray | None:
        """The dreamed frame, uint8 (64, 64, 3)."""
        if self.render_mode != "rgb_array":
            return None
        if self.model.vae is None:
            self.model.vae = load_vae(self.run, self.config)
        return to_uint8(self.model.vae.decode(self.z).numpy())[0]
