"""The tasks as Gymnasium environments with 64x64 observations.

gymnasium.make("env:WorldModels/CarRacing-v0", view="v0", pixels="paper")
gymnasium.make("env:WorldModels/DoomTakeCover-v0")
"""

import gymnasium as gym

from config import Config
from tasks.carracing_env import CarRacing
from tasks.takecover_env import DoomTakeCover

__all__ = ["CarRacing", "DoomTakeCover", "make_env"]

gym.register("WorldModels/CarRacing-v0", entry_point="tasks.carracing_env:CarRacing", max_episode_steps=1000)
gym.register("WorldModels/DoomTakeCover-v0", entry_point="tasks.takecover_env:DoomTakeCover")


def make_env(config: Config, render_mode: str | None = None) -> gym.Env:
    """The task's environment as `config` asks for it, without Gymnasium's wrappers: the caller cuts episodes."""
    if config.task == "doom":
        return DoomTakeCover(render_mode, pixels=config.pixels)
    return CarRacing(render_mode, view=config.view, pixels=config.pixels, drawer=config.drawer)
