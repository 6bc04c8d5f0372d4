"""Any Gymnasium environment with a picture as a task: `--task gymnasium:ID`.

V sees what the environment renders as "rgb_array", resized to 64x64, and never its own observations. M predicts the
reward and the end too, so that C is evolved in the dream by default.
"""

import importlib.util
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image

from world_models.config import UserError
from world_models.tasks.actions import checked, one_hot
from world_models.tasks.pixels import SIZE, rgb
from world_models.tasks.task import Task

PREFIX = "gymnasium:"
STEPS = 1000  # after which an episode of an environment without a limit of its own is cut
LONGEST = 8  # steps for which the random policy holds an action
FPS, MOST_FPS = 30, 1000  # of films, where the environment does not say; and at most
SAMPLE = 1000  # steps from which the length of random episodes is known
MOST_NUMBERS = 1024  # of an action


@contextmanager
def blame(name: str) -> Iterator[None]:
    """A UserError from within names the task, and so does sys.exit, which would end a stage as if it was complete."""
    try:
        yield
    except SystemExit as ended:
        raise UserError(f"--task {name}: the environment ended the program (sys.exit({ended.code!r}))") from None
    except UserError as error:
        raise UserError(f"--task {name}: {error}") from None
    except OSError as error:  # with its traceback: it would be taken for an error of the run's own files
        raise RuntimeError(f"--task {name}: the environment failed") from error


class Pictured(gym.Wrapper):
    """An environment with render_mode "rgb_array", seen as the pictures it renders. `name` is the task's, in messages.

    Observation: uint8 (64, 64, 3). Action: float32 (A,): a Box's numbers, each from -1 to 1 for its own range; or one
    number for each choice of a Discrete, of which the greatest is chosen. An integer of a Box has the values of its
    range in equal parts of -1 to 1.

    Raises:
        UserError: if the actions cannot be a task's, a picture is invalid (`pixels.rgb`), or the environment calls
            sys.exit.
    """

    def __init__(self, env: gym.Env, name: str):
        super().__init__(env)
        self.name, self.low = name, action_bounds(env.action_space)  # (A,)
        self.action_space = gym.spaces.Box(self.low, np.ones_like(self.low), dtype=np.float32)
        self.observation_space = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.fps = min(max(1, round(env.metadata.get("render_fps") or FPS)), MOST_FPS)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        with blame(self.name):
            _, info = self.env.reset(seed=seed, options=options)
            return self._observe(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        own = self.own(checked(action, *self.low.shape).astype(np.float32))
        with blame(self.name):
            _, reward, terminated, truncated, info = self.env.step(own)
            return self._observe(), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> np.ndarray:
        """The picture in its own size, uint8 (H, W, 3)."""
        with blame(self.name):
            return rgb(self.env.render())

    def _observe(self) -> np.ndarray:
        picture = Image.fromarray(rgb(self.env.render()))
        return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    def own(self, action: np.ndarray) -> int | np.ndarray:
        """The action (A,) in the environment's own terms."""
        space = self.env.action_space
        if isinstance(space, gym.spaces.Discrete):
            return int(space.start) + int(np.argmax(action))
        assert isinstance(space, gym.spaces.Box), "as in action_bounds"
        share = (action.reshape(space.shape).astype(np.float64) + 1) / 2
        if space.dtype.kind in "iub":
            low, high = (np.asarray(end.tolist(), object) for end in (space.low, space.high))  # Python's never overflow
            value = low + np.floor(share * (high - low + 1))
        else:
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            value = (1 - share) * low + share * high
        return np.clip(value, low, high).astype(space.dtype)


def action_bounds(space: gym.Space) -> np.ndarray:
    """(A,), the least value of each number of an action as C gives it; UserError if there is no such action."""
    if isinstance(space, gym.spaces.Discrete):
        numbers, what, least = int(space.n), "choices", 0
    elif isinstance(space, gym.spaces.Box) and np.isfinite([space.low, space.high]).all():
        numbers, what, least = math.prod(space.shape), "numbers", -1
    else:
        raise UserError(f"actions {space}: expected a Box with finite bounds, or Discrete")
    if not 1 <= numbers <= MOST_NUMBERS:
        raise UserError(f"actions {space}: expected 1 to {MOST_NUMBERS} {what}, found {numbers}")
    return np.full(numbers, least, np.float32)


class RandomHolder:
    """The random policy: an action drawn uniformly above `low` (A,), as in `action_bounds`, and held for 1 to LONGEST
    steps."""

    def __init__(self, rng: np.random.Generator, low: np.ndarray):
        self.rng, self.low, self.left = rng, low, 0

    def act(self, frame: int) -> np.ndarray:
        """float32 (A,), for any frame."""
        if not self.left:
            self.left = int(self.rng.integers(1, LONGEST + 1))
            self.action = self.rng.uniform(self.low, 1).astype(np.float32)
            if not self.low.any():  # of choices one is made
                self.action = one_hot(self.action)
        self.left -= 1
        return self.action.astype(np.float32)


def package_of(env_id: str) -> str:
    """PACKAGE:ID -> the module that Gymnasium imports first, ID -> ""; UserError if it is neither."""
    package, colon, name = env_id.rpartition(":")
    parts = package.split(".") if colon else []
    if not name or "__main__" in parts or not all(part.isidentifier() for part in parts):  # a __main__ is a program
        raise UserError(f"--task {PREFIX}{env_id}: expected {PREFIX}ID or {PREFIX}PACKAGE:ID")
    return package


def require_installed(name: str, run: Path) -> None:
    """UserError if a task that a file of the folder `run` names would import code from anywhere but where packages are
    installed: a folder may bring code along with its configuration. Imports nothing."""
    top = package_of(name.removeprefix(PREFIX)).partition(".")[0]
    if not top:
        return
    spec = None
    if top not in sys.stdlib_module_names:
        with suppress(ImportError, ValueError):  # ValueError: of a module without a spec, as __main__
            spec = importlib.util.find_spec(top)
    found = (spec.submodule_search_locations or [spec.origin or ""]) if spec else []
    places = [Path(os.path.abspath(place)).parent.resolve() for place in found if place]
    here, run = Path.cwd().resolve(), run.resolve()
    reachable = [place for place in places if place in (here, run, *run.parents) or run in place.parents]
    if not places or reachable:
        where = f"which lies in {reachable[0]}, where anybody's files may" if reachable else "which is not installed"
        remedy = f"install it (pip install), or, if you trust it, say --task {name} too"
        raise UserError(f"task {name!r} imports {top}, {where}; {remedy}")


def make(env_id: str) -> Pictured:
    """The environment with its pictures; UserError if there is none, or it cannot be a task."""
    package_of(env_id)
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws in memory; SDL would miss a display, and say so
    with blame(PREFIX + env_id):
        try:
            env = gym.make(env_id, render_mode="rgb_array")
            if env.render_mode != "rgb_array":
                raise UserError("it renders no rgb_array pictures for V to see")
            return Pictured(env, PREFIX + env_id)
        except UserError:
            raise
        except Exception as error:  # of the package, of the environment's __init__ or of what it says of itself
            kind = "" if isinstance(error, gym.error.Error) else f"{type(error).__name__}: "
            raise UserError(f"Gymnasium cannot make it: {kind}{' '.join(str(error).split())}") from None


@cache
def task(name: str) -> Task:
    """The task called gymnasium:ID; UserError as in `make`."""
    env_id = name.removeprefix(PREFIX)
    env = make(env_id)
    low, fps, discrete = env.low, env.fps, not env.low.any()
    limit = env.spec.max_episode_steps if env.spec else None
    limit = limit if limit and limit > 0 else None  # Gymnasium's -1 stands for none, too
    env.close()
    return Task(
        name=name,
        label=env_id,
        description=f"Gymnasium's {env_id}, seen as 64x64 pixels of its pictures, cut after {{max_frames}} steps. "
        "Return: the sum of an episode's rewards.",
        returns="return (sum of rewards)",
        env_id=env_id,
        make_env=lambda config, render_mode: make(env_id),
        low=tuple(map(float, low)),
        choice=discrete,
        episode_limit=limit,
        mean_length=lambda steps: mean_length(env_id, steps),
        policies={"held": lambda rng: RandomHolder(rng, low)},
        fps=fps,
        presets=presets(limit or STEPS),
    )


@cache
def mean_length(env_id: str, limit: int) -> float:
    """The steps of an episode of the random policy, cut after `limit` steps: a mean over SAMPLE steps or more. Nothing
    is drawn."""
    env, rng = make(env_id), np.random.default_rng(0)
    steps = episodes = 0
    with blame(env.name):
        while steps < SAMPLE:
            policy, over, frame = RandomHolder(rng, env.low), False, 0
            env.env.reset(seed=episodes)
            while not over and frame < limit:
                _, _, terminated, truncated, _ = env.env.step(env.own(policy.act(frame)))
                over, frame = terminated or truncated, frame + 1
            steps, episodes = steps + frame, episodes + 1
    env.close()
    return steps / episodes


def presets(limit: int) -> dict[str, dict]:
    """What any environment changes in the configuration; its episodes are of `limit` steps at most."""
    paper = dict(policy="held", max_frames=limit, vae_bias="mean", rnn_length=100)
    search = dict(heads="end+reward", play_in="dream", lanes=64, seed_sharing="common")
    laptop = dict(episodes=200, frames=10_000, rollouts="16", population=64)
    models = dict(vae_epochs=1, vae_batch=20, vae_rate=3e-4, rnn_steps=1000, rnn_batch=50, rnn_length=50)
    smoke = dict(episodes=16, frames=1000, max_frames=min(limit, 100), rnn_length=50, lanes=16)
    return {"paper": paper | search, "laptop": laptop | models, "smoke": smoke}
