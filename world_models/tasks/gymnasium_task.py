"""Any Gymnasium environment with a picture as a task: `--task gymnasium:ID`.

V sees what the environment renders as "rgb_array", resized to 64x64, and never its own observations. M predicts the
reward and the end too, so that C is evolved in the dream by default.
"""

import importlib.util
import os
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image

from world_models.config import Config, UserError
from world_models.tasks.actions import checked
from world_models.tasks.controls import choices
from world_models.tasks.task import Task

PREFIX = "gymnasium:"
SIZE = 64  # pixels: side of the observation
STEPS = 1000  # after which an episode of an environment without a limit of its own is cut
LONGEST = 8  # steps for which the random policy holds an action
FPS = 30  # of films, where the environment does not say


class Pictured(gym.Wrapper):
    """An environment seen as the pictures it renders.

    Args:
        env: with render_mode "rgb_array", and actions in a bounded Box or Discrete.

    Observation: uint8 (64, 64, 3). Action: float32 (A,): a Box's numbers, each from -1 to 1 for its own range; or one
    number for each choice of a Discrete, of which the greatest is chosen.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        low = action_bounds(env.action_space)
        self.action_space = gym.spaces.Box(low, np.ones_like(low), dtype=np.float32)
        self.observation_space = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        _, info = self.env.reset(seed=seed, options=options)
        return self._picture(), info

    def step(self, action: np.ndarray):
        _, reward, terminated, truncated, info = self.env.step(
            self._own(checked(action, *self.action_space.shape).astype(np.float32))
        )
        return self._picture(), float(reward), bool(terminated), bool(truncated), info

    def _own(self, action: np.ndarray):
        """The action in the environment's own terms."""
        space = self.env.action_space
        if isinstance(space, gym.spaces.Discrete):
            return int(space.start) + int(np.argmax(action))
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        return (low + (action.reshape(space.shape) + 1) / 2 * (high - low)).astype(space.dtype)

    def _picture(self) -> np.ndarray:
        frame = Image.fromarray(np.asarray(self.env.render(), np.uint8))
        return np.asarray(frame.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def action_bounds(space: gym.Space) -> np.ndarray:
    """(A,), the least value of each number of an action as C gives it; UserError if there is no such action."""
    if isinstance(space, gym.spaces.Discrete):
        return np.zeros(int(space.n), np.float32)
    if isinstance(space, gym.spaces.Box) and np.isfinite([space.low, space.high]).all():
        return -np.ones(int(np.prod(space.shape)), np.float32)
    raise UserError(f"actions {space}: expected a Box with finite bounds, or Discrete")


def greatest(a, ops=np):
    """tanh outputs (B, A) -> 1 for each row's greatest, 0 for the others. NaN stays: a broken agent chooses nothing."""
    chosen = ops.where(a >= ops.max(a, axis=-1, keepdims=True), 1.0, 0.0)
    return ops.where(ops.isnan(a), a, chosen)


class RandomHolder:
    """The random policy: an action drawn uniformly, held for 1 to LONGEST steps.

    Args:
        rng: the source of its randomness.
        low: (A,), as of `action_bounds`.
    """

    def __init__(self, rng: np.random.Generator, low: np.ndarray):
        self.rng, self.low, self.left = rng, low, 0

    def act(self, frame: int) -> np.ndarray:
        """float32 (A,), for any frame."""
        if not self.left:
            self.left = int(self.rng.integers(1, LONGEST + 1))
            self.action = self.rng.uniform(self.low, 1).astype(np.float32)
            if not self.low.any():  # of choices one is made
                self.action = greatest(self.action)
        self.left -= 1
        return self.action.astype(np.float32)


def package_of(env_id: str) -> str:
    """PACKAGE:ID -> the module that Gymnasium imports first, ID -> ""; UserError if it is neither."""
    package, colon, name = env_id.rpartition(":")
    if not name or (colon and not all(part.isidentifier() for part in package.split("."))):
        raise UserError(f"--task {PREFIX}{env_id}: expected {PREFIX}ID or {PREFIX}PACKAGE:ID")
    return package


def require_installed(name: str, run: Path) -> None:
    """UserError if a task that a file of the folder `run` names would import code from anywhere but where packages are
    installed: a folder may bring code along with its configuration. Imports nothing."""
    top = package_of(name.removeprefix(PREFIX)).partition(".")[0]
    if not top:
        return
    try:
        spec = importlib.util.find_spec(top) if top not in sys.stdlib_module_names else None
    except (ImportError, ValueError):  # ValueError: of a module without a spec, as __main__
        spec = None
    found = [place for place in ((spec.submodule_search_locations or [spec.origin]) if spec else ()) if place]
    places = [Path(os.path.abspath(place)).parent.resolve() for place in found]
    here, run = Path.cwd().resolve(), run.resolve()
    reachable = [place for place in places if place in (here, run, *run.parents) or run in place.parents]
    if not places or reachable:
        where = f"which lies in {reachable[0]}, where anybody's files may" if reachable else "which is not installed"
        remedy = f"install it (pip install), or, if you trust it, say --task {name} too"
        raise UserError(f"task {name!r} imports {top}, {where}; {remedy}")


def make(env_id: str) -> gym.Env:
    """The environment with its pictures; UserError if there is none, or it cannot be a task."""
    package_of(env_id)
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws in memory; SDL would miss a display, and say so
    try:
        env = gym.make(env_id, render_mode="rgb_array")
    except (gym.error.Error, ImportError, TypeError) as error:
        raise UserError(f"--task {PREFIX}{env_id}: Gymnasium cannot make it: {' '.join(str(error).split())}") from None
    if env.render_mode != "rgb_array":
        raise UserError(f"--task {PREFIX}{env_id}: it renders no rgb_array pictures for V to see")
    try:
        return Pictured(env)
    except UserError as error:
        raise UserError(f"--task {PREFIX}{env_id}: {error}") from None


def task(name: str) -> Task:
    """The task called gymnasium:ID; UserError as of `make`."""
    env_id = name.removeprefix(PREFIX)
    env = make(env_id)
    low, spec, discrete = env.action_space.low, env.spec, isinstance(env.env.action_space, gym.spaces.Discrete)
    fps = int(env.metadata.get("render_fps") or FPS)
    env.close()

    def make_env(config: Config, render_mode: str | None = None) -> gym.Env:
        return make(env_id)

    return Task(
        name=name,
        label=env_id,
        description=f"Gymnasium's {env_id}, seen as 64x64 pixels of its pictures, cut after {{max_frames}} steps. "
        "Return: the sum of an episode's rewards.",
        returns="return (sum of rewards)",
        env_id=env_id,
        make_env=make_env,
        low=tuple(map(float, low)),
        squash=greatest if discrete else (lambda a, ops=np: a),
        policies={"held": lambda rng: RandomHolder(rng, low)},
        fps=fps,
        controls=choices(env_id, len(low), fps) if discrete else None,
        presets=presets((spec.max_episode_steps if spec else None) or STEPS),
    )


def presets(limit: int) -> dict[str, dict]:
    """What any environment changes in the configuration; its episodes are of `limit` steps at most."""
    paper = dict(
        policy="held",
        max_frames=limit,
        vae_bias="mean",
        heads="end+reward",
        env="dream",
        rnn_length=100,
        lanes=64,
        seeds="common",
    )
    laptop = dict(
        episodes=200,
        vae_epochs=1,
        vae_batch=20,
        vae_rate=3e-4,
        rnn_steps=1000,
        rnn_batch=50,
        rnn_length=50,
        rollouts="16",
        population=64,
    )
    smoke = dict(episodes=16, max_frames=min(limit, 100), rnn_length=50, lanes=16)
    return {"paper": paper, "laptop": laptop, "smoke": smoke}
