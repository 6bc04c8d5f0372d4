"""A task of a few lines, as a user would add one, and a driver that runs the stages' scripts with it.

    python tests/toy_task.py '[["extract.py", "--run", DIR, "--task", "toy"], ...]'

A bright column of pixels drifts; the action moves it, and each step pays how near the middle it is.
"""

import json
import runpy
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from world_models import tasks  # noqa: E402
from world_models.tasks.task import Task  # noqa: E402


class Drift(gym.Env):
    """Observation: uint8 (64, 64, 3). Action: (1,) in -1..1. Terminates when the column leaves the frame."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, view: str):
        self.view = view

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(20, 44))
        return self._observe(), {}

    def step(self, action):
        self.place += 2 * float(action[0]) + float(self.np_random.normal(0, 1))
        gone = not 0 <= self.place < 64
        return self._observe(), 1 - abs(self.place - 32) / 32, gone, False, {}

    def _observe(self):
        frame = np.full((64, 64, 3), 30, np.uint8)
        frame[:, int(np.clip(self.place, 0, 63))] = 220
        return frame if self.view == "front" else np.ascontiguousarray(frame.transpose(1, 0, 2))


class Uniform:
    def __init__(self, rng):
        self.rng = rng

    def act(self, frame):
        return self.rng.uniform(-1, 1, 1).astype(np.float32)


PAPER = dict(policy="uniform", heads="end", z_size=4, rnn_units=8, mixtures=2)
SMOKE = dict(episodes=6, max_frames=30, vae_epochs=1, vae_batch=30, rnn_steps=3, rnn_batch=2, rnn_length=10)
SMOKE |= dict(initial_frames=4, population=4, rollouts="1", generations=2, eval_every=1, eval_episodes=2, lanes=4)

TASK = Task(
    name="toy",
    label="Drift",
    description="A column that drifts, cut after {max_frames} steps.",
    returns="return (nearness to the middle)",
    env_id="Drift-v0",
    make_env=lambda config, render_mode: Drift(config.view),
    views={"front": "Drift-v0", "side": "DriftSide-v0"},
    low=(-1.0,),
    policies={"uniform": Uniform},
    fps=10,
    presets={"paper": PAPER, "smoke": SMOKE},
)

if __name__ == "__main__":
    tasks.register(TASK)
    for argv in json.loads(sys.argv[1]):
        sys.argv = argv
        if argv[0].endswith(".py"):
            runpy.run_path(str(ROOT / argv[0]), run_name="__main__")
        else:
            runpy.run_module(argv[0], run_name="__main__")
