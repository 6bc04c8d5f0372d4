"""CarRacing: what the paper drives in. The environment itself is in carracing_env.py."""

from typing import Any

import gymnasium as gym
import numpy as np

from world_models.config import Config
from world_models.tasks.task import Task

VARIANTS = ("plain", "colour", "bars", "blob")


def make_env(config: Config, render_mode: str | None = None) -> gym.Env:
    from world_models.tasks.carracing_env import CarRacing  # here: Doom does not need Box2D

    return CarRacing(render_mode, view=config.view, pixels=config.pixels, variant=config.variant)


def squash(a: Any, ops: Any = np) -> Any:
    """tanh outputs (B, 3) -> steer, gas from -1..1 to 0..1, brake cut at 0 (carracing/model.py)."""
    return ops.stack([a[:, 0], (a[:, 1] + 1.0) / 2.0, ops.clip(a[:, 2], 0.0, 1.0)], axis=-1)


class RandomDriver:
    """The release's random policy: one random linear controller an episode (carracing/extract.py).

    The release draws weights from a standard Cauchy times U(0, 0.01) for V, M and C alike. Over such a V and
    M, z is as good as N(0, I) and h as good as 0, so only C's part for z and its biases are drawn here.
    """

    def __init__(self, rng: np.random.Generator, z_size: int = 32):
        self.rng, self.z_size = rng, z_size
        params = rng.standard_cauchy((1, (z_size + 1) * 3)) * rng.uniform(0, 0.01)
        self.bias, self.weight = params[:, :3], params[:, 3:].reshape(1, z_size, 3)

    def act(self, frame: int) -> np.ndarray:
        """float32 (3,), for any frame."""
        z = self.rng.standard_normal((1, self.z_size))
        return squash(np.tanh(np.einsum("bi,bio->bo", z, self.weight) + self.bias))[0].astype(np.float32)


class RandomWanderer:
    """Smoothed noise: each action an autoregressive walk about a mean drawn for the episode.

    Not the release's. Its random linear controllers leave the field, for good, in more than half of their
    episodes, and a third of all frames is black. A small machine cannot afford to train on those.
    """

    KEEP = 0.95  # of the deviation, from frame to frame: it is forgotten in about 20 frames, 0.4 s

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.mean = np.array([0.0, rng.uniform(0.0, 0.3), rng.uniform(-0.3, 0.0)])
        self.spread = np.array([rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.3), rng.uniform(0.05, 0.2)])
        self.deviation = np.zeros(3)

    def act(self, frame: int) -> np.ndarray:
        """float32 (3,), for any frame."""
        noise = np.sqrt(1 - self.KEEP**2) * self.spread * self.rng.standard_normal(3)
        self.deviation = self.KEEP * self.deviation + noise
        return np.clip(self.mean + self.deviation, (-1, 0, 0), (1, 1, 1)).astype(np.float32)


TASK = Task(
    name="carracing",
    label="CarRacing",
    description="""\
Gymnasium's CarRacing, seen as 64x64 pixels and cut after {max_frames} steps. Views: `v0` draws it with the camera of
CarRacing-v0, which the paper played; `v3` is Gymnasium's own. The action is steer, gas, brake. Return: the sum of an
episode's rewards.""",
    returns="return (sum of rewards)",
    env_id="CarRacing-v0",
    make_env=make_env,
    entry_point="world_models.tasks.carracing_env:CarRacing",
    time_limit=1000,
    variants=VARIANTS,
    views={"v0": "CarRacing-v0", "v3": "CarRacing-v3"},
    low=(-1.0, 0.0, 0.0),  # steer, gas, brake
    squash=squash,
    mirror=(-1.0, 1.0, 1.0),
    policies={"release": RandomDriver, "smooth": RandomWanderer},
    stops_at_end=False,  # as in the release: its frames off the field are data like any other
    fps=50,
    dream_id="CarRacingDream-v0",
    presets={"laptop": dict(policy="smooth", z="mean")},  # the paper's are Config's defaults
    mark=900.0,  # gym's "reward_threshold"
    published="carracing",
)
