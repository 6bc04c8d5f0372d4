"""The tasks by name, and configurations as they bound them."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from world_models import config as configs
from world_models.config import Config, UserError
from world_models.presets import PRESETS
from world_models.tasks import carracing, gymnasium_task, takecover
from world_models.tasks.task import Task

TASKS: dict[str, Task] = {}
# Tasks that the user has named with --task. They may import a package from anywhere; a task that a file names may not.
TRUSTED_TASKS: set[str] = set()


def register(task: Task) -> None:
    """Makes a task known under its name."""
    TASKS[task.name] = task


for module in (carracing, takecover):
    register(module.TASK)


def get(name: str) -> Task:
    """The task of this name, a registered one or gymnasium:ID; UserError if there is none."""
    if name in TASKS:
        return TASKS[name]
    if name.startswith(gymnasium_task.PREFIX):
        return gymnasium_task.task(name)
    raise UserError(f"--task: unknown task {name!r}: expected one of {', '.join(TASKS)}, {gymnasium_task.PREFIX}ID")


def named(name: str) -> str:
    """The value of --task: the user's own word for what may be imported."""
    TRUSTED_TASKS.add(name)
    return name


def require_trusted_import(name: str, run: Path) -> None:
    """UserError if the task that a file of the folder `run` names would import code that is neither installed nor named
    by the user."""
    if name.startswith(gymnasium_task.PREFIX) and name not in TRUSTED_TASKS:
        gymnasium_task.require_installed(name, run)


def preset(name: str, preset: str) -> Config:
    """The configuration of a task under a preset's name; UserError if either is unknown."""
    task = get(name)
    if preset not in PRESETS:
        raise UserError(f"--preset: unknown preset {preset!r}: expected one of {', '.join(PRESETS)}")
    camera = {"view": task.published_view} if task.views else {}
    values = {**camera, **task.presets.get("paper", {}), **PRESETS[preset]}
    if preset != "paper":
        values |= task.presets.get(preset, {})
    if frames := values.pop("frames", 0):
        assert task.mean_length is not None, "a task whose presets count frames says how long an episode is"
        values["episodes"] = max(values["episodes"], math.ceil(frames / task.mean_length(values["max_frames"])))
    return Config(task=name, preset=preset, **values)


def pays_in_dreams(config: Config) -> bool:
    """Whether a dream of the run has a reward, so that C can be evolved in it."""
    return get(config.task).dream_reward is not None or "reward" in config.rnn_heads


def check(config: Config) -> Config:
    """Returns `config`, or raises UserError naming the field that makes no sense, or not for its task."""
    configs.check(config)
    task = get(config.task)
    for name, known in {"policy": task.policies, "view": task.views, "variant": task.variants}.items():
        if known and (value := getattr(config, name)) not in known:
            raise UserError(f"--{name}: expected one of {', '.join(known)}, got {value!r}")
    if config.mirror == "yes" and task.mirror is None:
        raise UserError(f"--mirror yes: {task.label} has no mirror image; leave it out")
    if task.episode_limit is not None and config.max_frames > task.episode_limit:
        raise UserError(
            f"--max-frames: {task.label} ends an episode after {task.episode_limit} steps, got {config.max_frames}"
        )
    if task.dream_reward is not None and "end" not in config.rnn_heads:
        raise UserError(f"--heads {config.heads}: {task.label}'s dream is paid by the step; use end or end+reward")
    if config.play_in == "dream" and not pays_in_dreams(config):
        raise UserError(
            f"--play-in dream: this M of {task.label} predicts no reward, so nothing can be evolved in its dream; use "
            "--play-in real, or an M with --heads reward or end+reward"
        )
    return config


def replace(config: Config, **changes: Any) -> Config:
    """A configuration with changes, checked."""
    return check(dataclasses.replace(config, **changes))
