"""Puts runs beside the published numbers: a report, its pictures, and a model card.

    python -m tools.report runs/car
    python -m tools.report runs/car-0 runs/car-1 runs/car-2 --out runs/seeds
    python -m tools.report pretrained/carracing pretrained/carracing-v3 pretrained/doom --into docs/results.md

Reads what the run folders hold: config.json, results.json (from evaluate.py), controller/history.jsonl and
metrics.jsonl (from training), pictures/. Writes report.md, PNG pictures beside it, and model_card.md, the
first run's card for the Hugging Face hub. What a run lacks stays an empty cell. Runs that differ only in their seed are
one curve, with a band from the lowest to the highest, and one more row: from three seeds on with a 95% bootstrap
interval over seeds.

    python -m tools.report runs/car-0 runs/car-1 --csv curves.csv

only writes the curves of V, M and C, a row a value: run, task, seed, model, step, seconds, quantity, value.
"""

import argparse
from pathlib import Path

from tools.reporting.card import card
from tools.reporting.curves import curves_csv
from tools.reporting.pages import suffix, write_report
from tools.reporting.runs import read_runs
from tools.reporting.tables import published_table, short_table
from tools.reporting.words import fill
from world_models import command_line
from world_models.runs import storage
from world_models.runs.packed import require_writable

# What `--into` writes between the lines "<!-- NAME -->" and "<!-- end of NAME -->" of a page.
SECTIONS = {"results": short_table, "published": lambda runs: published_table()}


def parse() -> argparse.Namespace:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="run folders, one or several")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: report/ in the first run)")
    parser.add_argument("--card", type=Path, metavar="PATH", help="also write the first run's model card to this file")
    parser.add_argument(
        "--into", type=Path, metavar="PATH", help="only write the tables into this page, between its comments"
    )
    parser.add_argument("--csv", type=Path, metavar="PATH", help="only write the learning curves, as tidy CSV")
    return parser.parse_args()


def main() -> None:
    args = parse()
    runs = read_runs(args.runs)
    if args.csv:
        storage.write_text(args.csv, curves_csv(runs))
        print(args.csv)
        return
    if args.into:
        fill(args.into, {name: write(runs) for name, write in SECTIONS.items()})
        return
    if args.out is None:
        require_writable(args.runs[0], "say where to write the report, --out DIR")
    print(write_report(runs, args.out or args.runs[0] / "report"))
    if args.card:
        storage.write_text(args.card, card(runs[0], args.card.parent, suffix(runs[0], runs)))
        print(args.card)


if __name__ == "__main__":
    command_line.command(main)
