"""What tells experiments apart, in words: the titles of panels and the names of lines."""

import dataclasses

from tools.reporting.runs import Run
from world_models import config as configs
from world_models.results import where

# Said by `where`, or no part of an experiment.
SAID = ("task", "preset", "seed", "lanes", "view", "pixels", "temperature", "env", "features", "untrained",
        "dtype", "linked", "generations")  # fmt: skip


def settings(config: configs.Config) -> dict[str, str]:
    """A run's settings that no row of results says, in words, by their names."""
    values = dataclasses.asdict(config)
    return {name: f"{name.replace('_', ' ')} {value}" for name, value in values.items() if name not in SAID}


def of_row(run: Run, row: dict) -> dict[str, str]:
    """What a row of results was a test of, in words, by the name of what each word says."""
    said = {"where": where(row), "features": f"C sees {row['features']}", "preset": row["preset"]}
    said["untrained"] = f"untrained {row['untrained']}" if row["untrained"] != "none" else ""
    return said | settings((run.agent(row) or run).config)


def of_search(run: Run) -> dict[str, str]:
    """How a run's agent is evolved, as `of_row`."""
    config = run.config
    said = {"env": "in the game" if config.env == "real" else f"dream, τ {config.temperature:g}"}
    said |= {"features": f"C sees {config.features}", "preset": config.preset, "view": f"view {config.view}"}
    said["untrained"] = f"untrained {config.untrained}" if config.untrained != "none" else ""
    return said | settings(config)


def titles(said: list[dict[str, str]], alike: str) -> list[str]:
    """A title for each: its words for what is not the same in all; the word called `alike` where nothing differs."""
    differing = [name for name in said[0] if len({words[name] for words in said}) > 1] or [alike]
    return [", ".join(words[name] for name in differing if words[name]) or words[alike] for words in said]
