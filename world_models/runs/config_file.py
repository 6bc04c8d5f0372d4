"""config.json: a run's configuration as text, and text as a configuration, strictly."""

import dataclasses
import json
from pathlib import Path

from world_models import tasks
from world_models.runs.integrity import json_digest, read_json, sealed
from world_models.config import Config, UserError, fields_of, flag

# Settings that came later, as runs were before: their config.json has none of them. A new setting goes here too.
ADDED = {
    "round": 1,
    "linked": 0,
    "spread": 1.0,
    "noisy": 0.3,
    "action_noise": 0.3,
    "curious": 0.0,
    "random": 0.0,
    "new_share": 0.5,
    "restart": "no",
    "vae_weight": 1.0,
    "vae_bias": "zero",
    "mirror": "no",
    "optimism_weight": 2.0,
    "dream_starts": "first",
    "dream_frames": 0,
    "dream_end": "cutoff",
    "optimizer": "cma",
    "patience": 0,
    "z": "sampled",
    "tracks": "uniform",
    "average": 0,
}

DATA = ("environment", "data", "before", "round")
# What a run's files depend on beside its task and seed: the headings of settings, and which of them do not count.
DEPENDS = {
    "episode": (DATA, {"episodes", "new_share"}),  # a run of more episodes begins with the same
    "vae": ((*DATA, "V"), set()),
    "rnn": ((*DATA, "V", "M"), {"untrained"}),
    "search": (("C",), {"generations"}),  # which may grow
}


def settings_digest(config: Config, what: str) -> str:
    """Digest of the settings that one of DEPENDS depends on.

    Those that came later count only where they are not as runs were before: a new setting changes no digest.
    """
    groups, without = DEPENDS[what]
    kinds = {item.name: item.type for item in dataclasses.fields(Config)}
    # 1 and 1.0 are one setting, which config.json has as the second.
    values = {name: kinds[name](getattr(config, name)) for name in fields_of(*groups) if name not in without}
    values = {name: value for name, value in values.items() if name not in ADDED or value != ADDED[name]}
    untrained = [name for name in ("vae", "rnn") if name in config.untrained and what in ("rnn", name)]
    return json_digest(values | ({"untrained": untrained} if untrained else {}))


def text(config: Config, origin: dict | None) -> str:
    """What config.json says.

    Args:
        origin: the run's base, {"from": DIR} or {"after": DIR}, relative to its folder; {} if it has none, None if
            that is not known.
    """
    content = dataclasses.asdict(config) | ({} if origin is None else {"origin": origin})
    return json.dumps(sealed(content), indent=1) + "\n"


def parse(path: Path) -> tuple[Config, dict | None]:
    """The configuration in a file, and the run's base (see `text`).

    UserError if it is not as it was written, lacks a setting, has an unknown one, one of another type, or one that
    makes no sense; or if its task would import what is neither installed nor named by the user (`tasks.NAMED`).
    """
    content = read_json(path)
    origin = content.pop("origin", None)
    try:
        if type(content.get("task", "")) is not str:
            raise UserError(f"--task: expected a name, got {content['task']!r}")
        tasks.require_harmless(content.get("task", ""), path.parent)
        if origin is not None and not (
            isinstance(origin, dict)
            and origin.keys() <= {"from", "after"}
            and all(type(base) is str for base in origin.values())
        ):
            raise UserError(f"origin: expected the run's base by its flag, got {origin!r}")
        # In M's heads the tasks differed from the start.
        if "task" in content:
            content = {"heads": tasks.preset(content["task"], "paper").heads, **ADDED, **content}
        names = {item.name for item in dataclasses.fields(Config)}
        for what, odd in (("has unknown", content.keys() - names), ("lacks", names - content.keys())):
            if odd:
                raise UserError(f"it {what} settings: {', '.join(sorted(odd))}")
        for item in dataclasses.fields(Config):
            if item.type is float and type(content[item.name]) is int:
                try:
                    content[item.name] = float(content[item.name])
                except OverflowError:
                    raise UserError(
                        f"{flag(item.name)}: expected a finite number, got one of too many digits"
                    ) from None
        return tasks.check(Config(**content)), origin
    except UserError as error:
        raise UserError(f"{path} is not a run's configuration: {error}") from None
