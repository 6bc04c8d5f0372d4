"""Puts runs next to the published numbers: a report with its figures.

    python -m tools.report runs/car
    python -m tools.report runs/car-0 runs/car-1 runs/car-2 --out runs/seeds
    python -m tools.report pretrained/carracing pretrained/carracing-v3 pretrained/doom --into lab/rows.md

The report is written as report.md, as report.html (one page, with the films), and as report.tex (a LaTeX table of the
results, for the package booktabs). Figures are written as PNG and as PDF. What a run lacks is an empty cell. Runs that
differ only in their seed are one curve, with a band from the lowest to the highest, and one more row: from three seeds
on it has a 95% interval over seeds. Rounds before a run are reported with it.

    python -m tools.report runs/car-0 runs/car-1 --csv curves.csv
    python -m tools.report pretrained/carracing --figure docs/score-against-episodes.png

--csv only writes the curves of V, M and C, with a row for each value: run, task, seed, model, step, seconds, quantity,
value. --figure only draws the scores against the real training episodes of C, round by round, next to published ones.
"""

import argparse
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from tools.reporting import markup, plots
from tools.reporting.pages import write_report
from tools.reporting.runs import Run, read_runs
from tools.reporting.tables import published_table, results_blocks, scores_by_episodes
from world_models import command_line
from world_models.config import UserError
from world_models.runs import files
from world_models.runs.manifest import Manifest

# What `--into` writes between the lines "<!-- NAME -->" and "<!-- end of NAME -->" of a page.
SECTIONS = {
    "results": lambda runs: markup.to_markdown(results_blocks(runs)),
    "published": lambda runs: markup.to_markdown([published_table()]),
}

# Of the learning curves.
COLUMNS = ("run", "task", "seed", "model", "step", "seconds", "quantity", "value")
KEYS = ("model", "step", "generation", "seconds", "evaluation")  # of a line, that are no quantities


def points(run: Run) -> Iterator[tuple]:
    """(model, step, seconds, quantity, value): of V and M at a training step, of C at a generation."""
    lines = [("controller", line["generation"], line) for line in run.history]
    for model, step, line in [*((line["model"], line["step"], line) for line in run.metrics), *lines]:
        found = {name: value for name, value in line.items() if name not in KEYS}
        found |= {f"evaluation_{name}": value for name, value in (line.get("evaluation") or {}).items()}
        yield from ((model, step, line["seconds"], *pair) for pair in found.items())


def curves_csv(runs: list[Run]) -> str:
    """Everything that the runs and their agents have logged."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in (one for top in runs for one in (top, *top.agents)):
        writer.writerows((run.name, run.config.task, run.config.seed, *point) for point in points(run))
    return text.getvalue()


def parse() -> argparse.Namespace:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="run folders, one or several")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: report/ in the first run)")
    tables = "only write the tables into this page, between its comments"
    parser.add_argument("--into", type=Path, metavar="PATH", help=tables)
    parser.add_argument("--csv", type=Path, metavar="PATH", help="only write the learning curves, as tidy CSV")
    parser.add_argument("--figure", type=Path, metavar="PATH", help="only draw scores against episodes of C")
    return parser.parse_args()


def main() -> None:
    args = parse()
    runs = read_runs(args.runs)
    if args.csv:
        files.write_text(args.csv, curves_csv(runs))
        command_line.print_result(args.csv)
    elif args.into:
        markup.fill(args.into, {name: write(runs) for name, write in SECTIONS.items()})
        command_line.print_result(args.into)
    elif args.figure:
        task = runs[0].config.task
        for path in plots.by_episodes(args.figure, task, scores_by_episodes(runs, task)):
            command_line.print_result(path)
    else:
        if args.out is None and Manifest(args.runs[0]).packed:
            raise UserError(f"{args.runs[0]} is a pack and read-only: say where to write the report with --out DIR")
        if args.out is None:
            files.require_no_link(args.runs[0] / "report")
        for path in write_report(runs, args.out or args.runs[0] / "report"):
            command_line.print_result(path)


if __name__ == "__main__":
    command_line.command(main)
