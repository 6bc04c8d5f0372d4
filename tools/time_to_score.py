"""How long the search takes to a score: C evolved anew from a run's V and M until its mean reaches each mark.

The published curve is read beside it. Its first scoring is generation 25's: what it says of a mark is an upper bound.
"""

import subprocess
import sys
from pathlib import Path

from tools.launcher import mpirun
from world_models import config as configs
from world_models import published, tasks
from world_models.runs import storage

MARKS = (600, 700, 800)
CHUNK = 10  # generations between two looks
LONGEST = 200  # generations after which it gives up
SEARCH = ("population", "rollouts", "seeds", "optimizer", "sigma", "lanes")
EVERY = 5  # generations between two scorings: finer than a preset's, which has days


def seconds_to(history: list[dict], marks: tuple[float, ...] = MARKS) -> dict[str, float | None]:
    """Seconds of evolution, scorings included, until the mean first scores each mark; None if it has not."""
    found = {}
    for mark in marks:
        reached = [line["seconds"] for line in history if line["evaluation"] and line["evaluation"]["mean"] >= mark]
        found[f"seconds_to_{mark:g}"] = reached[0] if reached else None
    return found


def published_seconds(task: str, marks: tuple[float, ...] = MARKS) -> dict[str, float | None]:
    """The same of the published curve of a task, by its key in published.json, on 64 cores."""
    rows = published.read()["training_curves"][task]["evaluation"]
    history = [{"seconds": seconds, "evaluation": {"mean": mean}} for _, seconds, mean in rows]
    return seconds_to(history, marks)


def laptop(task: str) -> tuple[str, ...]:
    """The search of the task's `laptop` preset as flags, whatever the shipped agent was evolved with; scored often, and
    acting in the faster arithmetic."""
    preset = tasks.preset(task, "laptop")
    chosen = {name: getattr(preset, name) for name in SEARCH} | {"eval_every": EVERY, "dtype": "auto"}
    return tuple(part for name, value in chosen.items() for part in (configs.flag(name), str(value)))


def time_to_score(
    base: Path, run: Path, ranks: int = 2, marks: tuple[float, ...] = MARKS, flags: tuple[str, ...] = ()
) -> dict[str, float | None]:
    """Evolves C in `run` (new, or begun before: it goes on) with `base`'s V, M and settings until it scores the last
    mark, or for LONGEST generations.

    Args:
        flags: settings of the search in which it differs from `base`.
    """
    prefix = mpirun(ranks) if ranks > 1 else []
    script = Path(__file__).parent.parent / "train_controller.py"
    made = (run / "config.json").exists()
    history = storage.read_lines(run / "controller" / "history.jsonl") if made else []
    while None in seconds_to(history, marks).values() and len(history) < LONGEST:
        generations = len(history) + CHUNK
        begin = [] if made else ["--from", base, *flags]
        command = [*prefix, sys.executable, script, "--run", run, *begin, "--generations", str(generations)]
        done = subprocess.run(list(map(str, command)), stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise configs.UserError(f"the evolution ended with status {done.returncode}:\n{done.stderr}")
        made = True
        history = storage.read_lines(run / "controller" / "history.jsonl")
    return seconds_to(history, marks)
