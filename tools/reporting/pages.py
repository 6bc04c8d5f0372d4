"""The report: report.md, report.html, report.tex, and the figures that they show."""

import os
from pathlib import Path

from tools.reporting import names, plots
from tools.reporting.markup import Block, Heading, Media, Text, to_html, to_latex, to_markdown
from tools.reporting.runs import Run, experiment, groups_of, searches, seeds_of, tests, trainings
from tools.reporting.tables import METHOD, differences, made_table, published_table, results_blocks, results_table
from world_models import published, tasks
from world_models.results import where
from world_models.runs import files

# Captions of a run's pictures and films, by the pattern of their names; {} is what the pattern leaves open.
CAPTIONS = {
    "pictures/training*.png": "Training of C, next to the published training.",
    "pictures/returns*.png": "Returns of the test episodes, and the published mean ± standard deviation.",
    "pictures/reconstructions.png": "Recorded frames, and V's reconstructions below them.",
    "pictures/dream-*.png": "A dream of M at temperature {}, driven by the run's agent.",
    "pictures/*-best.png": "The end of the best test episode, ten steps from picture to picture.",
    "pictures/*-median.png": "The end of the median test episode.",
    "pictures/*-worst.png": "The end of the worst test episode.",
    "videos/*-best.mp4": "The best test episode.",
    "videos/*-median.mp4": "The median test episode.",
    "videos/*-worst.mp4": "The worst test episode.",
    "videos/*-dream-*.mp4": "A dream of M, driven by the run's agent.",
}


def media(run: Path, at: Path) -> list[Media]:
    """A run's pictures and films, by their paths from the folder `at`."""
    found = []
    for pattern, words in CAPTIONS.items():
        for path in sorted(run.glob(pattern)):
            left_open = path.stem.removeprefix(Path(pattern).stem.rstrip("*"))
            found.append(Media(os.path.relpath(path.resolve(), at.resolve()), words.format(left_open)))
    return found


def training_curves(runs: list[Run], path: Path) -> str | None:
    """Draws the training of C of runs of one task, and returns the caption; None if there is no history."""
    found = searches(runs)
    if not found:
        return None
    task = runs[0].config.task
    curves = [(names.search(group), [run.history for run in group]) for group in found]
    theirs = published.curve(task)
    plots.training(path, task, curves, theirs)
    words = "Mean, best and worst return of a generation's candidates. Markers show the mean of the search's "
    words += "distribution, scored on fresh episodes, from which the kept agent is chosen."
    return words if theirs is None else f"{words} {published.curve_source(task)}"


def histograms(runs: list[Run], path: Path) -> str | None:
    """Draws the returns of the tests of runs of one task, and returns the caption; None if there are none."""
    scored = ((experiment(run, row), (run, row)) for run, row in tests(runs))
    panels = []
    for group in map(seeds_of, groups_of(scored)):
        run, row = group[0]
        returns = {f"{names.agent(run)}, {row['episodes']:,} episodes": row["returns"] for run, row in group}
        title = f"{where(row)}, C sees {names.sees(row)}, round {run.config.round}"
        panels.append((title, returns, published.score(row)))
    if not panels:
        return None
    plots.histograms(path, runs[0].config.task, panels)
    return CAPTIONS["pictures/returns*.png"]


def figures(runs: list[Run], out: Path) -> list[Block]:
    """The figures of all runs of each task: training of C, and returns of tests."""
    blocks: list[Block] = []
    for task in sorted({run.config.task for run in runs}):
        same = [run for run in runs if run.config.task == task]
        for name, draw in (("training", training_curves), ("returns", histograms)):
            path = out / f"{name}-{tasks.get(task).file_name}.png"
            if caption := draw(same, path):
                blocks.append(Media(path.name, caption))
    return blocks


def models(runs: list[Run], out: Path) -> list[Block]:
    """V's and M's learning curves, of one run or of seeds together, and the first one's pictures and films."""
    blocks: list[Block] = []
    for group in trainings(runs):
        found, first = [], group[0]
        if all(run.metrics for run in group):
            path = out / f"losses-{first.name}.png"
            plots.losses(path, [run.metrics for run in group])
            band = f": the mean of {len(group)} runs in a band from the lowest to the highest" * (len(group) > 1)
            found.append(Media(path.name, f"Learning curves of V and M{band}."))
        if found := [*found, *media(first.path, out)]:
            named = ", ".join(names.agent(run) for run in group)
            blocks += [Heading(named if len(group) == 1 else f"{named}; pictures of {first.name}"), *found]
    return blocks


def write_report(runs: list[Run], out: Path) -> list[Path]:
    """Writes report.md, report.html, report.tex and the figures to `out`; the paths of the three."""
    played = list(dict.fromkeys(run.config.task for run in runs))
    title = f"Report: {', '.join(run.name for run in runs)}"
    blocks: list[Block] = [Heading(title, 1), Heading("Results"), Text(METHOD), *results_blocks(runs)]
    blocks += [Heading("How the agents were made"), made_table(runs)]
    if drawn := figures(runs, out):
        blocks += [Heading("Training and tests of C"), *drawn]
    blocks += [*models(runs, out), Heading("Settings that differ from the paper's")]
    for run in runs:
        blocks += [Text(f"{names.agent(run)}:"), differences(run.config)]
    blocks += [Heading("Published scores and their sources"), published_table(played)]
    written = {"md": to_markdown(blocks), "html": to_html(title, blocks), "tex": to_latex(results_table(runs), METHOD)}
    for ending, content in written.items():
        files.write_text(out / f"report.{ending}", content)
    return [out / f"report.{ending}" for ending in written]
