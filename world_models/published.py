"""The published numbers: `published.json` is the only place where they are written, each with its source."""

import json
from pathlib import Path

from world_models import results, tasks

FILE = Path(__file__).parent / "published.json"

# What the paper calls the agents that our controllers are (paper 3.3, A.4).
AGENTS = {"zh": "z and h (full world model)", "z": "z only", "z_hidden": "z with a hidden layer of 40 tanh units"}


def read() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))


def scores(task: str) -> list[dict]:
    """The paper's scores of a task; [] if it has none."""
    return read()["scores"].get(tasks.get(task).published, [])


def score(row: dict) -> tuple[float, float] | None:
    """(mean, std) that the paper reports for what a row of results.json measured, or None.

    Of a task whose published agents are evolved in dreams, only the full agent evolved in a dream has a published
    counterpart. A test in a dream has one if it is the agent's own dream, which begins and ends as the release's.
    """
    task, kind, tau = tasks.get(row["task"]), row["play_in"], row["trained_temperature"]
    own_dream = row["temperature"] == tau and all(row[name] == value for name, value in results.RELEASED.items())
    full = row["features"] == tasks.preset(row["task"], "paper").features
    other = row["untrained"] != "none" or row["variant"] != "plain" or row["view"] != task.published_view
    if other or (kind == "dream" and not own_dream) or (task.evolves_in_dreams and not full):
        return None
    fits = {"temperature": tau} if task.evolves_in_dreams else {"agent": AGENTS.get(row["features"])}
    mean, std = (f"{kind}_{name}" if task.evolves_in_dreams else name for name in ("mean", "std"))
    found = (entry for entry in scores(row["task"]) if fits.items() <= entry.items())
    return next(((entry[mean], entry[std]) for entry in found), None)


def text(row: dict) -> str:
    """The published score of a row as "mean ± std"; "" where there is none."""
    found = score(row)
    return plus_minus(*found) if found else ""


def plus_minus(mean: float, std: float | None) -> str:
    """A score as it was published: mean ± std, or the mean alone."""
    return f"{mean:g}" if std is None else f"{mean:g} ± {std:g}"


def curve(task: str) -> dict[str, dict[str, tuple]] | None:
    """The release's training log in columns: "generations" has generation, seconds, mean, min, max, ... of the
    population's fitness, "evaluation" has generation, seconds and mean of the agent scored on fresh episodes; None for
    a task that it has none of."""
    data = read()["training_curves"].get(tasks.get(task).published)
    if data is None:
        return None
    evaluation = dict(zip(("generation", "seconds", "mean"), zip(*data["evaluation"], strict=True), strict=True))
    generations = dict(zip(data["columns"], zip(*data["rows"], strict=True), strict=True))
    return {"generations": generations, "evaluation": evaluation}


def sources(task: str) -> list[list[str]]:
    """Every published score of a task as [agent, what was played, score, episodes, source]: the paper's, those of
    reimplementations, and those of other agents."""
    known, found = tasks.get(task), []
    game = known.environment(known.published_view)
    for entry in [*scores(task), *(entry for entry in read()["others"] if entry["task"] == known.published)]:
        for kind, played in (("", game), ("dream_", "its dream"), ("real_", game)):
            if f"{kind}mean" in entry:
                score = plus_minus(entry[f"{kind}mean"], entry[f"{kind}std"])
                score += f" (standard error {entry['standard_error']})" if "standard_error" in entry else ""
                episodes = f"{entry['episodes']:,}" if "episodes" in entry else ""
                found.append([entry["agent"], entry.get("what", played), score, episodes, entry["source"]])
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
    """On which machine the published curve was made, and where it is from, in sentences."""
    data = read()
    curve = data["training_curves"][tasks.get(task).published]
    source = f"{curve['source']}; evaluations: {curve['evaluation_source']}"
    return f"The published hours are those of {data['machine']}. Source: {source}."
