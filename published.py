"""The published numbers: `published.json` is the only place where they are written."""

import json
from pathlib import Path

FILE = Path(__file__).parent / "published.json"

# What the paper calls the agents that our controllers are (paper 3.3, 3.4).
AGENTS = {"zh": "z and h (full world model)", "z": "z only", "z_hidden": "z with a hidden layer of 40 tanh units"}


def read() -> dict:
    return json.loads(FILE.read_text())


def score(row: dict) -> tuple[float, float] | None:
    """(mean, std) that the paper reports for what a row of results.json measured, or None."""
    if row["untrained"] != "none":
        return None
    for entry in read()["scores"][row["task"]]:
        if row["task"] == "carracing":
            if entry.get("agent") == AGENTS.get(row["features"]) and entry.get("std") is not None:
                return entry["mean"], entry["std"]
        elif row["features"] == "zch" and entry.get("temperature") == row["temperature"]:
            kind = row["env"]
            return entry[f"{kind}_mean"], entry[f"{kind}_std"]
    return None


def text(row: dict) -> str:
    """The published score of a row as "906 ± 21", or "-" where there is none."""
    found = score(row)
    return "-" if found is None else f"{found[0]:g} ± {found[1]:g}"
