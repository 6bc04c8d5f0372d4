"""config.json: a run's settings. It is read strictly."""

import dataclasses
import json
from pathlib import Path

from world_models import tasks
from world_models.config import Config, UserError, flag
from world_models.runs import files


def text(config: Config) -> str:
    """The content of config.json."""
    return json.dumps(dataclasses.asdict(config), indent=1) + "\n"


def load(run: Path) -> Config:
    """The settings in DIR/config.json. A setting that the file lacks has its default, since it is newer than the file.

    UserError if the file is missing or broken, if a setting is unknown, of another type or out of bounds, or if the
    task would import what is neither installed nor named by the user (`tasks.TRUSTED_TASKS`).
    """
    path = run / "config.json"
    if not path.exists():
        raise UserError(f"{run} holds no run: {path} is missing; make one with extract.py --run {run}")
    content = files.read_json(path)
    try:
        if not isinstance(content.get("task"), str):
            raise UserError(f"--task: expected a name, found {content.get('task')!r}")
        tasks.require_trusted_import(content["task"], run)
        kinds = {item.name: item.type for item in dataclasses.fields(Config)}
        if unknown := content.keys() - kinds.keys():
            raise UserError(f"unknown settings: {', '.join(sorted(unknown))}")
        for name, value in content.items():
            if kinds[name] is float and type(value) is int:
                if not files.is_number(value):
                    raise UserError(f"{flag(name)}: expected a finite number, found a too large one")
                content[name] = float(value)
        return tasks.check(Config(**content))
    except UserError as error:
        raise UserError(f"{path} does not hold settings: {error}") from None
