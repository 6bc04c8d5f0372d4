"""The published numbers: `published.json` is the only place where they are written, each with its source."""

import json
from pathlib import Path

from world_models import results, tasks

FILE = Path(__file__).parent / "published.json"

# What the paper calls the agents that our controllers are (paper 3.3, A.4).
AGENTS = {"zh": "z and h (full world model)", "z": "z only", "z_hidden": "z with a hidden layer of 40 tanh units"}
KINDS = ("dream", "real")  # where agents that are evolved in dreams were scored


def read() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))


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
    return tau is None or (
        row["play_in"] == "dream" and (row["temperature"] != tau or not results.dreams_as_released(row))
    )


def score(row: dict) -> tuple[float, float] | None:
    """(mean, std) that the paper reports for what a row of results.json measured, or None."""
    if (
        row["untrained"] != "none"
        or row["variant"] != "plain"
        or no_published_counterpart(row)
        or row["view"] != tasks.get(row["task"]).published_view
    ):
        return None
    for entry in scores(row["task"]):
        if not tasks.get(row["task"]).evolves_in_dreams:
            if entry.get("agent") == AGENTS.get(row["features"]) and entry.get("std") is not None:
                return entry["mean"], entry["std"]
        elif row["features"] == full_features(row["task"]) and entry.get("temperature") == row["temperature"]:
            kind = row["play_in"]
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


def sources(task: str) -> list[tuple[str, str, str, str, str]]:
    """Every published score of a task as (agent, what was played, score, episodes, source): the paper's, those of
    reimplementations, and those of other agents."""
    found = []
    known, data = tasks.get(task), read()
    dreams, key = known.evolves_in_dreams, known.published
    game = known.environment(known.published_view)

    def add(agent: str, entry: dict, score: str, played: str = game) -> None:
        episodes = f"{entry['episodes']:,}" if "episodes" in entry else ""
        found.append((agent, entry.get("what", played), score, episodes, entry["source"]))

    for entry in scores(task):
        agent = entry.get("agent") or f"World Models, trained at τ {entry['temperature']}"
        agent += f", generation {entry['generation']}" if "generation" in entry else ""
        for kind in KINDS if dreams else ("",):
            mean, std = (f"{kind}_{name}".strip("_") for name in ("mean", "std"))
            if mean in entry:
                add(agent, entry, plus_minus(entry[mean], entry[std]), "its dream" if kind == "dream" else game)
    for peer in data["peers"]:
        if dreams:
            entry = peer.get(key, {})
            for kind in (kind for kind in KINDS if kind in entry):
                add(peer["name"], entry, entry[kind], "its dream" if kind == "dream" else game)
            continue
        for entry in peer.get(key, []):
            which = [entry["agent"]] if "agent" in entry else []
            which += [f"generation {entry['generation']}"] if "generation" in entry else []
            add(", ".join([peer["name"], *which]), entry, plus_minus(entry["mean"], entry["std"]))
    for entry in (entry for entry in data["others"] if entry["task"] == key):
        error = f" (standard error {entry['standard_error']})" if "standard_error" in entry else ""
        add(entry["agent"], entry, plus_minus(entry["mean"], entry["std"]) + error)
    return found


def by_episodes(task: str) -> list[tuple[str, list[tuple[float, float]]]]:
    """Published scores against real training episodes of C, as (agent, [(episodes, score), ...]): the release's, from
    its training log, and others'; [] for a task with none, or whose agents are evolved in dreams."""
    known, found = tasks.get(task), curve(task)
    if found is None or known.evolves_in_dreams:
        return []
    paper = tasks.preset(task, "paper")
    each, evaluation = paper.population * int(paper.rollouts), found["evaluation"]
    points = [(g * each, mean) for g, mean in zip(evaluation["generation"], evaluation["mean"], strict=True)]
    others = read()["scores_by_episodes"].get(known.published, [])
    return [("World Models, release", points), *((one["agent"], list(map(tuple, one["points"]))) for one in others)]


def curve_source(task: str) -> str:
    """Where the published curve is from."""
    data = read()["training_curves"][tasks.get(task).published]
    return f"{data['source']}; evaluations: {data['evaluation_source']}"


def machine() -> str:
    """What the paper's authors trained on."""
    return read()["machine"]
