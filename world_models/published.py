"""The published numbers: `published.json` is the only place where they are written, each with its source."""

import json
from pathlib import Path

from world_models import results, tasks

FILE = Path(__file__).parent / "published.json"

# What the paper calls the agents that our controllers are (paper 3.3, A.4).
AGENTS = {"zh": "z and h (full world model)", "z": "z only", "z_hidden": "z with a hidden layer of 40 tanh units"}
KINDS = ("dream", "real")  # where agents that are evolved in dreams were scored


def read() -> dict:
    return json.loads(FILE.read_text())


def full_features(task: str) -> str:
    """What C of the paper's full agent sees."""
    return tasks.preset(task, "paper").features


def no_published_counterpart(row: dict) -> bool:
    """Whether no such test is published: of an agent evolved in the real environment of a task whose published
    agents are evolved in dreams, or tested in another dream than its own, or in one that begins or ends otherwise
    than the release's."""
    tau = row["trained_temperature"]
    if not tasks.get(row["task"]).evolves_in_dreams:
        return False
    return tau is None or (row["env"] == "dream" and (row["temperature"] != tau or not results.dreams_as_released(row)))


def score(row: dict) -> tuple[float, float] | None:
    """(mean, std) that the paper reports for what a row of results.json measured, or None."""
    if (
        row["untrained"] != "none"
        or no_published_counterpart(row)
        or row["view"] != tasks.get(row["task"]).published_view
    ):
        return None
    for entry in scores(row["task"]):
        if not tasks.get(row["task"]).evolves_in_dreams:
            if entry.get("agent") == AGENTS.get(row["features"]) and entry.get("std") is not None:
                return entry["mean"], entry["std"]
        elif row["features"] == full_features(row["task"]) and entry.get("temperature") == row["temperature"]:
            kind = row["env"]
            return entry[f"{kind}_mean"], entry[f"{kind}_std"]
    return None


def scores(task: str) -> list[dict]:
    """The paper's scores of a task; [] if it has none."""
    return read()["scores"].get(tasks.get(task).published, [])


def text(row: dict) -> str:
    """The published score of a row as "mean ± std", or "-" where there is none."""
    found = score(row)
    return "-" if found is None else plus_minus(*found)


def plus_minus(mean: float, std: float | None) -> str:
    """A score as it was published: mean ± std, or the mean alone."""
    return f"{mean:g}" if std is None else f"{mean:g} ± {std:g}"


def peers(row: dict) -> list[str]:
    """What other reimplementations report for what a row measured, as "mean ± std (name)".

    A peer is named if it left the same models untrained, and had the same view or, for agents evolved in dreams,
    where it says one, the same temperature.
    """
    found = []
    task = tasks.get(row["task"])
    if row["features"] != full_features(task.name) or no_published_counterpart(row):
        return found
    for peer in read()["peers"]:
        name = peer["name"].partition("/")[0]
        if task.evolves_in_dreams:
            entry = peer.get(task.published, {})
            fits = entry.get("temperature", row["temperature"]) == row["temperature"] and row["untrained"] == "none"
            if row["env"] in entry and fits:
                found.append(f"{entry[row['env']]} ({name}{'' if 'temperature' in entry else ', τ not stated'})")
            continue
        for entry in peer.get(task.published, []):
            if entry.get("untrained", "none") == row["untrained"] and entry.get("view", "v0") == row["view"]:
                when = f", generation {entry['generation']}" if "generation" in entry else ""
                what = f", {entry['what']}" if "what" in entry else ""
                found.append(f"{plus_minus(entry['mean'], entry['std'])} ({name}{when}{what})")
    return found


def curve(task: str) -> dict[str, dict[str, tuple]] | None:
    """The release's training log in columns; None for a task that it has none of.

    Returns:
        "generations": generation, seconds, mean, min, max, ... of the population's fitness;
        "evaluation": generation, seconds and mean of the agent scored on fresh episodes.
    """
    data = read()["training_curves"].get(tasks.get(task).published)
    if data is None:
        return None
    tables = {
        "generations": (data["columns"], data["rows"]),
        "evaluation": (["generation", "seconds", "mean"], data["evaluation"]),
    }
    return {key: dict(zip(names, zip(*rows, strict=True), strict=True)) for key, (names, rows) in tables.items()}


def temperatures(task: str) -> list[dict]:
    """The paper's scores of a task whose agents are evolved in dreams: by temperature, then those without one."""
    return sorted(scores(task), key=lambda entry: entry.get("temperature", float("inf")))


def sources(task: str) -> list[tuple[str, str, str]]:
    """Every published score of a task as (agent, score, source): the paper's, the reimplementations' and others'."""
    found = []
    dreams, key = tasks.get(task).evolves_in_dreams, tasks.get(task).published
    for entry in scores(task):
        agent = entry.get("agent") or f"trained at τ {entry['temperature']}"
        if "generation" in entry:
            agent += f", generation {entry['generation']}, {entry['episodes']} episodes"
        if not dreams:
            found.append((agent, plus_minus(entry["mean"], entry["std"]), entry["source"]))
            continue
        for kind in KINDS:
            if f"{kind}_mean" in entry:
                value = plus_minus(entry[f"{kind}_mean"], entry[f"{kind}_std"])
                found.append((f"{agent}, {kind}", value, entry["source"]))
    for peer in read()["peers"]:
        if dreams:
            entry = peer.get(key, {})
            found += [(f"{peer['name']}, {kind}", entry[kind], entry["source"]) for kind in KINDS if kind in entry]
            continue
        for entry in peer.get(key, []):
            which = [entry["agent"]] if "agent" in entry else []
            which += [f"generation {entry['generation']}"] if "generation" in entry else []
            which += [entry["what"]] if "what" in entry else []
            agent = ", ".join([peer["name"], *which])
            found.append((agent, plus_minus(entry["mean"], entry["std"]), entry["source"]))
    for entry in read()["others"]:
        if entry["task"] == key:
            found.append((entry["agent"], plus_minus(entry["mean"], entry["std"]), entry["source"]))
    return found


def curve_source(task: str) -> str:
    """Where the published curve is from."""
    data = read()["training_curves"][tasks.get(task).published]
    return f"{data['source']}; evaluations: {data['evaluation_source']}"


def machine() -> str:
    """What the paper's authors trained on."""
    return read()["machine"]
