"""The report, section by section, and its pictures: what tools.report writes."""

import os
from pathlib import Path

from tools.reporting import names, plots
from tools.reporting.card import card
from tools.reporting.runs import Run, groups, searches, trainings
from tools.reporting.tables import differences, results_table, temperature_table
from tools.reporting.words import pack_of, pictures, table
from world_models import published, tasks
from world_models.runs import storage


def training_section(runs: list[Run], out: Path) -> list[str]:
    text = []
    for task in sorted({run.config.task for run in runs}):
        found = searches([run for run in runs if run.config.task == task])
        if not found:
            continue
        labels = names.titles([names.of_search(group[0]) for group in found], "env")
        labels = [
            f"{label}: " + (f"{len(group)} seeds" if len(group) > 1 else group[0].name)
            for label, group in zip(labels, found, strict=True)
        ]
        curves = [(label, [run.history for run in group]) for label, group in zip(labels, found, strict=True)]
        theirs = published.curve(task)
        plots.training(out / f"training-{tasks.get(task).file_name}.png", task, curves, theirs)
        text.append(f"![Training curves, {task}](training-{tasks.get(task).file_name}.png)\n")
        words = "mean, best and worst fitness of a generation's candidates, and the distribution's mean evaluated on "
        words += "fresh episodes, from which the kept agent is chosen."
        if theirs is not None:
            words = f"Ours over the published curve: {words} Hours are ours on our machine, theirs on "
            words += f"{published.machine()}. Source: {published.curve_source(task)}."
        text.append(words[0].upper() + words[1:] + "\n")
    return ["## Training of C\n", *text] if text else []


def is_part_of_another(row: dict, group: list[tuple[Run, dict]]) -> bool:
    """Whether a test's episodes are among those of a longer test of the same agent, beside which they would count
    twice."""

    def played(row: dict) -> tuple[str | None, set[int]]:
        return row.get("agent"), set(row.get("seeds", ()))

    agent, episodes = played(row)
    others = [played(other) for _, other in group]
    return bool(agent and episodes) and any(other == agent and episodes < more for other, more in others)


def test_section(runs: list[Run], out: Path) -> list[str]:
    text = []
    by_task: dict[str, list] = {}
    for found in groups(runs).values():
        if group := [(run, row) for run, row in found if row.get("returns")]:
            by_task.setdefault(group[0][1]["task"], []).append(group)
    for task, found in by_task.items():
        panels = []
        for title, group in zip(names.titles([names.of_row(*g[0]) for g in found], "where"), found, strict=True):
            shown = [(run, row) for run, row in group if not is_part_of_another(row, group)]
            returns = {f"{run.name}, seed {r['seed']}, {r['episodes']} episodes": r["returns"] for run, r in shown}
            panels.append((title, returns, published.score(group[0][1])))
        name = f"histogram-{tasks.get(task).file_name}.png"
        plots.histograms(out / name, task, panels)
        text.append(f"![Returns of test episodes, {task}]({name})\n")
    return ["## Test episodes\n", *text] if text else []


def model_section(group: list[Run], out: Path, suffix: str) -> list[str]:
    """V's and M's learning curves, of one run or of seeds together, and the first one's pictures."""
    text, first = [], group[0]
    if all(run.metrics for run in group):
        plots.losses(out / f"losses{suffix}.png", [run.metrics for run in group])
        band = f", the mean of {len(group)} runs in a band from the lowest to the highest" * (len(group) > 1)
        text.append(f"![Learning curves of V and M{band}](losses{suffix}.png)\n")
    for picture, caption in pictures(first.path / "pictures"):
        if pack_of(first.path, out):
            name = os.path.relpath(picture, out)
        else:
            name = f"{picture.stem}{suffix}.png"
            storage.copy(picture, out / name)
        text.append(f"{caption}\n\n![{caption}]({name})\n")
    title = first.name if len(group) == 1 else f"{', '.join(run.name for run in group)}; pictures of {first.name}"
    return [f"## V and M: {title}\n", *text] if text else []


def suffix(run: Run, runs: list[Run]) -> str:
    """What the names of a run's pictures end with in a report of `runs`."""
    return f"-{run.name}" if len(runs) > 1 else ""


def write_report(runs: list[Run], out: Path) -> Path:
    """Writes report.md, its pictures and model_card.md to `out`; the report's path."""
    played = sorted({run.config.task for run in runs})
    text = [
        f"# Report: {', '.join(run.name for run in runs)}\n",
        "## Results\n",
        "Mean ± standard deviation over test episodes. The paper and, where nothing else is said, the peers played "
        f"{' and '.join(task.env_id for task in tasks.TASKS.values() if task.published)}. An empty cell was not "
        "measured, or not published.\n",
        results_table(runs),
        *training_section(runs, out),
        *test_section(runs, out),
    ]
    for task in played:
        if tasks.get(task).evolves_in_dreams:
            text += ["## Temperatures\n", "Trained in the dream at τ, tested there and in the real environment.\n"]
            text += [temperature_table(runs, task)]
    for group in trainings(runs):
        text += model_section(group, out, suffix(group[0], runs))
    text += ["## What differs from the paper's configuration\n"]
    for run in runs:
        text += [f"{run.name}, seed {run.config.seed}:\n", table(["setting", "here", "paper"], differences(run.config))]
    text += ["## Published scores and their sources\n"]
    for task in played:
        text += [f"{task}:\n", table(["agent", "score", "source"], [list(line) for line in published.sources(task)])]
    storage.write_text(out / "report.md", "\n".join(text))
    storage.write_text(out / "model_card.md", card(runs[0], out, suffix(runs[0], runs)))
    return out / "report.md"
