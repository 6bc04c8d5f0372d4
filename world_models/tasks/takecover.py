"""Doom's TakeCover: what the paper dreams of. The environment itself is in takecover_env.py."""

import gymnasium as gym
import numpy as np

from world_models.config import Config
from world_models.tasks.task import Task

VARIANTS = ("plain", "walls", "floor", "text")


def make_env(config: Config, render_mode: str | None = None) -> gym.Env:
    from world_models.tasks.takecover_env import DoomTakeCover  # here: ViZDoom is an extra

    return DoomTakeCover(render_mode, pixels=config.pixels, variant=config.variant)


class RandomStrafer:
    """The release's random policy (doomrnn/extract.py): U(-1, 1), redrawn at frames that `repeat` divides, `repeat`
    itself being redrawn, 1 to `longest`, at that moment.

    The release's `longest` is 10, with which an agent spends 3% of its life next to a wall; with LONG it is 17%.
    In few episodes M would else not learn that one dies there, too.
    """

    LONG = 60  # frames; from the middle to a wall it is about 50

    def __init__(self, rng: np.random.Generator, longest: int = 10):
        self.rng, self.longest = rng, longest
        self.repeat = int(rng.integers(1, longest + 1))
        self.action = np.zeros(1, np.float32)

    def act(self, frame: int) -> np.ndarray:
        """float32 (1,), for frames counted from 0."""
        if frame % self.repeat == 0:
            self.action = self.rng.uniform(-1, 1, 1).astype(np.float32)
            self.repeat = int(self.rng.integers(1, self.longest + 1))
        return self.action


# What the release's Doom changes [doomrnn/*.py].
PAPER = dict(max_frames=2100, min_frames=100, z_size=64, heads="end")
PAPER |= dict(rnn_units=512, rnn_steps=24_400, rnn_length=500, rnn_rate_end=1e-5, rnn_rate_decay=0.99999)
PAPER |= dict(play_in="dream", temperature=1.15, features="zch", lanes=128)
# M learns from pieces a fifth as long: the state is carried from piece to piece as before, a step costs a fifth,
# and in so few steps it is their number that counts. For the same reason its learning rate falls seventy times
# faster. It must predict deaths in held-out episodes (tools/held_out.py): hence a policy that strafes
# as far as the walls, where agents go, and mirror images, which are as good as new episodes.
LAPTOP = dict(episodes=3000, policy="smooth", mirror="yes", eval_episodes=128)
LAPTOP |= dict(rnn_steps=2700, rnn_length=100, rnn_rate_decay=0.9993)
SMOKE = dict(episodes=24, max_frames=2100, rnn_steps=40, rnn_length=100, population=16, lanes=16)

TASK = Task(
    name="doom",
    label="ViZDoom",
    description="""\
ViZDoom's Take Cover, seen as 64x64 pixels and cut after {max_frames} steps. The agent moves left or right, away from
fireballs. Return: time steps survived. "Dream" is the same game as M predicts it, at a temperature τ.""",
    returns="return (time steps survived)",
    env_id="DoomTakeCover-v0",
    make_env=make_env,
    entry_point="world_models.tasks.takecover_env:DoomTakeCover",
    episode_limit=2100,
    low=(-1.0,),  # left or right
    biases=False,  # as the release's Doom
    mirror=(-1.0,),
    variants=VARIANTS,
    policies={"release": RandomStrafer, "smooth": lambda rng: RandomStrafer(rng, RandomStrafer.LONG)},
    fps=35,
    max_lanes=16,  # each environment has an engine, a process of its own
    dream_reward=1.0,
    dream_id="DoomRNN-v0",
    presets={"paper": PAPER, "laptop": LAPTOP, "smoke": SMOKE},
    mark=750.0,  # gym-doom's: "solved" at a mean of 750 steps [paper 4]
    published="doom",
)
