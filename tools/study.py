"""Compares the agents of `train_controller.py --vary` at equal numbers of training episodes.

    mpirun -n 2 python train_controller.py --run runs/doom --vary rollouts=4/1,15:2 optimizer=cma,cma-diagonal seed=1,2
    python -m tools.study --run runs/doom --mark 1000

Prints a table with a row for each combination of settings: the evaluation of the search's mean at four quarters of the
budget, as mean ± standard error over seeds. Between two evaluations the score is interpolated.
"""

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from world_models import command_line, statistics
from world_models.config import Config, UserError, flag, rollouts_at
from world_models.runs import files
from world_models.runs.run import Run


class Search(NamedTuple):
    """One agent's search: a row of `scored` (N, 3) holds the training episodes spent, the seconds, and the score of the
    mean, for each evaluation."""

    config: Config
    scored: np.ndarray

    def at(self, episodes: float) -> float:
        """The score after so many episodes; NaN before the first and after the last evaluation."""
        return float(np.interp(episodes, self.scored[:, 0], self.scored[:, 2], left=np.nan, right=np.nan))

    def first(self, mark: float) -> tuple[float, float]:
        """(episodes, seconds) until an evaluation first reached the mark; NaN if none did."""
        reached = self.scored[self.scored[:, 2] >= mark]
        return tuple(reached[0, :2]) if len(reached) else (math.nan, math.nan)


def read(run: Run) -> Search | None:
    """A run's search; None if it has no evaluation yet. UserError if its history is damaged."""
    config, spent, rows = run.config, 0, []
    for line in files.read_lines(run / "controller/history.jsonl", "evaluation"):
        spent += config.population * rollouts_at(config.rollouts, line["generation"])
        if line["evaluation"]:
            rows.append((spent, line["seconds"], line["evaluation"]["mean"]))
    return Search(config, np.array(rows)) if rows else None


def summary(values: list[float]) -> str:
    """Mean ± standard error over seeds; empty if a seed has no value."""
    if not np.isfinite(values).all():
        return ""
    error = f" ± {statistics.standard_error(values):.0f}" if len(values) > 1 else ""
    return f"{np.mean(values):,.0f}{error}"


def table(searches: list[Search], episodes: int | None = None, mark: float | None = None) -> str:
    """The comparison as a Markdown table. The budget is `episodes`, or the smallest number that any of the searches has
    spent. With `mark`, a score, it also says how many episodes and seconds it took to reach it."""
    episodes = episodes or int(min(search.scored[-1, 0] for search in searches))
    names = [item.name for item in dataclasses.fields(Config) if item.name not in ("seed", "generations")]
    varied = [name for name in names if len({getattr(search.config, name) for search in searches}) > 1]
    labels = [" ".join(f"{flag(name)} {getattr(one.config, name)}" for name in varied) or "all" for one in searches]
    quarters = [episodes * k // 4 for k in (1, 2, 3, 4)]
    head = ["settings", "seeds", *(f"{count:,} episodes" for count in quarters)]
    head += [] if mark is None else [f"episodes to {mark:g}", f"seconds to {mark:g}"]
    rows = [head, ["---"] * len(head)]
    for label in dict.fromkeys(labels):
        group = [search for search, own in zip(searches, labels, strict=True) if own == label]
        row = [f"`{label}`", str(len(group)), *(summary([one.at(count) for one in group]) for count in quarters)]
        if mark is not None:
            row += map(summary, zip(*(one.first(mark) for one in group), strict=True))
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run whose agents are compared")
    parser.add_argument("--episodes", type=command_line.count, help="the budget (default: what all agents have spent)")
    parser.add_argument("--mark", type=float, help="also say after how many episodes this score was reached")
    args = parser.parse_args()
    run = Run(args.run)
    searches = [search for one in (run, *run.agents) if (search := read(one))]
    if not searches:
        raise UserError(
            f"{args.run} has no agent that was evaluated; evolve some with: python train_controller.py --run "
            f"{args.run} --vary seed=1,2"
        )
    command_line.print_result(table(searches, args.episodes, args.mark))


if __name__ == "__main__":
    command_line.command(main)
