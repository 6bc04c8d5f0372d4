"""The values of healthy runs: `healthy.json` is the only place where they are written, each with its source."""

import json
from pathlib import Path

import numpy as np

from tools.reporting.words import table
from world_models import published

FILE = Path(__file__).parent / "healthy.json"


def read() -> dict:
    return json.loads(FILE.read_text())


def curve(entry: dict, task: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of a healthy curve; the release's are read from published.json."""
    if "published" not in entry:
        return tuple(np.array(entry["points"], float).T)
    columns = published.curve(task)[entry["published"]]
    chosen = [columns["generation"].index(step) for step in entry["at"]]
    return np.array(entry["at"], float), np.array(columns["mean"], float)[chosen]


def normal(entry: dict, task: str, step: int) -> float:
    """A healthy value after `step` steps: between two points by the step's logarithm, beyond the last as there."""
    steps, values = curve(entry, task)
    return float(np.interp(np.log(step), np.log(steps), values))


def bounds(entry: dict, value: float) -> tuple[float, float]:
    """(lowest, highest) value that is not remarkable, where `value` is normal."""
    low = value * entry["low"] if "low" in entry else value - entry["below"] if "below" in entry else -np.inf
    high = value * entry["high"] if "high" in entry else value + entry["above"] if "above" in entry else np.inf
    return low, high


def points(entry: dict, task: str) -> str:
    return ", ".join(f"{step:,.0f}: {value:.4g}" for step, value in zip(*curve(entry, task), strict=True))


def limit(entry: dict) -> str:
    """When a curve's value is remarkable, in words."""
    words = {"high": "over {} ×", "low": "under {} ×", "above": "{} above", "below": "{} below"}
    return ", ".join(text.format(entry[name]) for name, text in words.items() if name in entry)


def tables() -> dict[str, str]:
    """The tables of docs/healthy-values.md, by the name of their comments."""
    values, found = read(), {}
    header = ["stage", "value", "preset", "normal", "look if", "source"]
    for task, known in values["tasks"].items():
        lines = [
            [e["stage"], e["name"], f"`{e['preset']}`", f"{e['unit']} {points(e, task)}", limit(e), e["source"]]
            for e in known["curves"]
        ]
        found[task] = table(header, lines)
    faults = [[name, fault["stage"], fault["cause"], fault["do"]] for name, fault in values["faults"].items()]
    return found | {"faults": table(["what the doctor says", "stage", "what it means", "what to do"], faults)}
