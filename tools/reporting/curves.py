"""Learning curves of V, M and C as tidy data, with a row for each value."""

import csv
import io
from collections.abc import Iterator

from tools.reporting.runs import Run

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
