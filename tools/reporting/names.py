"""Agents and settings in words: the cells of tables, the titles of panels, the names of lines."""

import dataclasses

from tools.reporting.runs import Run

SEES = {"z": "z", "z_hidden": "z, through a hidden layer", "zh": "z and h", "zc": "z and c", "zch": "z, c and h"}
UNTRAINED = {"rnn": ", M untrained", "vae": ", V untrained", "vae+rnn": ", V and M untrained"}
SAID = ("seed", "features", "temperature")  # by the other cells of a row


def sees(row: dict) -> str:
    """What C sees, and which models were left untrained; of a row of results, or of settings."""
    return SEES.get(row["features"], row["features"]) + UNTRAINED.get(row["untrained"], "")


def varied(run: Run) -> str:
    """The settings in which a run of agents/ differs from its parent, as far as no other cell of a row says them."""
    parts = [part.partition("-") for part in run.path.name.split(",")] if run.in_agents else []
    return "".join(f", {name.replace('_', ' ')} {value}" for name, _, value in parts if name not in SAID)


def agent(run: Run, seeds: list[int] | None = None) -> str:
    """An agent as each row of a table names it: run, round and seed."""
    name = run.name.partition("/")[0] + ", agents" * run.in_agents
    seeds = [run.config.seed] if seeds is None else seeds
    return f"{name}, round {run.config.round}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}{varied(run)}"


def search(group: list[Run]) -> str:
    """The search for an agent, or for those of several seeds: whose it is, what C sees, and where it is evolved."""
    config = group[0].config
    place = f", dream at τ {config.temperature:g}" if config.play_in == "dream" else ""
    seeds = sorted({run.config.seed for run in group})
    return f"{agent(group[0], seeds)}: C sees {sees(dataclasses.asdict(config))}{place}"
