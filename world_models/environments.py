"""The tasks as Gymnasium environments with 64x64 observations."""

import gymnasium as gym

from world_models import tasks
from world_models.config import Config

for task in tasks.TASKS.values():
    if task.entry_point is not None:
        gym.register(f"WorldModels/{task.env_id}", entry_point=task.entry_point, max_episode_steps=task.time_limit)


def make_env(config: Config, render_mode: str | None = None) -> gym.Env:
    """The task's environment as `config` asks for it, without Gymnasium's wrappers: the caller cuts episodes."""
    return tasks.get(config.task).make_env(config, render_mode)
