"""Puts runs beside the published numbers: a report, its pictures, and a model card.

    python report.py runs/car
    python report.py runs/car-0 runs/car-1 runs/car-2 --out runs/seeds
    python report.py runs/car --card pretrained/carracing/README.md

Reads what the run folders hold: config.json, results.json (from evaluate.py), controller/history.jsonl and
metrics.jsonl (from training), pictures/. Writes report.md, PNG pictures beside it, and model_card.md, the
first run's card for the Hugging Face hub. What a run lacks stays an empty cell. Runs that differ only in
their seed are also averaged, with a 95% bootstrap interval over seeds.
"""

import argparse
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import config as configs
import folder
import plots
import published
from card import card, differences, table, where

# Tests of runs that share these are the same experiment, repeated with other seeds.
KEY = ("task", "preset", "env", "view", "pixels", "temperature", "features", "untrained")
HEADER = ["task", "environment", "preset", "features", "paper", "peers", "ours: mean ± std", "episodes", "seed",
          "generation", "training time", "hardware of the test", "command"]  # fmt: skip
RESAMPLES = 10_000


@dataclass(frozen=True)
class Run:
    """What a run folder holds. `parts` are the runs in its temperature-*/ folders."""

    path: Path
    name: str
    config: configs.Config
    rows: list[dict] = field(default_factory=list)  # results.json
    history: list[dict] = field(default_factory=list)  # controller/history.jsonl
    metrics: list[dict] = field(default_factory=list)  # metrics.jsonl
    best: dict | None = None  # controller/best.json
    parts: tuple["Run", ...] = ()

    def agent(self, row: dict) -> "Run | None":
        """The run that evolved the agent of a row of `rows`: this one, a part, or None if it is not here."""
        if self.config.task == "carracing":
            return self
        found = [run for run in (self, *self.parts) if run.config.temperature == row["temperature"]]
        return next((run for run in found if run.best), found[0] if found else None)


def read_run(path: Path, name: str) -> Run:
    """UserError if `path` is no run, or a file in it is broken."""
    config = folder.load(path)
    parts = sorted(p.parent for p in path.glob("temperature-*/config.json"))
    results = read_json(path / "results.json") or {"results": []}
    try:
        rows = [identity(config) | row for row in results["results"]]
    except (KeyError, TypeError) as error:
        raise configs.UserError(f"{path / 'results.json'} is not a results file: {error!r}") from None
    return Run(
        path,
        name,
        config,
        rows or [identity(config)],
        read_lines(path / "controller" / "history.jsonl"),
        read_lines(path / "metrics.jsonl"),
        read_json(path / "controller" / "best.json"),
        tuple(read_run(part, f"{name}/{part.name}") for part in parts),
    )


def identity(config: configs.Config) -> dict:
    """What a row of results.json says of a run before any test: all else is missing."""
    row = {name: getattr(config, name) for name in KEY} | {"env": "real", "seed": config.seed}
    return row | ({"temperature": None} if config.task == "carracing" else {"view": None})


def read_json(path: Path):
    """A JSON file; None if it is missing."""
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise configs.UserError(f"{path} is broken: {error}") from None


def read_lines(path: Path) -> list[dict]:
    """A file of JSON lines; [] if it is missing. A training may be writing the last line: it may be cut short."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise configs.UserError(f"{path}, line {number}, is broken: {error}") from None
    return found


def read_runs(paths: list[Path]) -> list[Run]:
    """The runs, named by their folders; by their whole paths where two folders have the same name."""
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path).strip("/").replace("/", "-") for path in paths]
    return [read_run(path, name) for path, name in zip(paths, names, strict=True)]


def interval(means: list[float]) -> tuple[float, float]:
    """The 95% bootstrap interval of the mean of `means`, one a seed (percentiles of resampled means).

    Of three seeds or fewer, it reaches from the lowest to the highest.
    """
    means = np.asarray(means)
    chosen = np.random.default_rng(0).integers(len(means), size=(RESAMPLES, len(means)))
    low, high = np.percentile(means[chosen].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def groups(runs: list[Run]) -> dict[tuple, list[tuple[Run, dict]]]:
    """The measured rows of all runs by experiment (KEY); Doom's by temperature, dream before game."""
    found: dict[tuple, list] = {}
    for run in runs:
        for row in run.rows:
            if "mean" in row:
                found.setdefault(tuple(row[name] for name in KEY), []).append((run, row))
    return dict(sorted(found.items(), key=lambda item: (item[0][0], item[0][5] or 0, str(item[0]))))


def duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def seconds_of(lines: list[dict]) -> float:
    """Seconds of a training, from its lines: a resumed one counts from 0 again."""
    seconds = [line["seconds"] for line in lines]
    return sum(now for now, after in zip(seconds, [*seconds[1:], 0], strict=True) if after < now)


def training_time(run: Run, row: dict) -> str:
    """How long V, M and C took, as far as it was noted here."""
    trained = run.agent(row)
    stages = {"V": "vae", "M": "rnn"}
    lines = {letter: [line for line in run.metrics if line["model"] == name] for letter, name in stages.items()}
    lines["C"] = trained.history if trained else []
    return ", ".join(f"{letter} {duration(seconds_of(noted))}" for letter, noted in lines.items() if noted)


def cells(run: Run, row: dict) -> list[str]:
    """A row of the results table; what was not measured is empty."""
    features = row["features"] + (f", untrained {row['untrained']}" if row["untrained"] != "none" else "")
    paper = published.text(row) if published.score(row) else ""
    start = [row["task"], where(row), row["preset"], features, paper, "<br>".join(published.peers(row))]
    ours = f"{row['mean']:.1f} ± {row['std']:.1f}" if "mean" in row else ""
    episodes, seed, generation, hardware = (
        "" if row.get(name) is None else str(row[name]) for name in ("episodes", "seed", "generation", "hardware")
    )
    launch = f"mpirun -n {row['ranks']} python" if row.get("ranks", 1) > 1 else "python"
    command = f"`{launch} {row['command']}`" if "command" in row else ""
    return [*start, ours, episodes, seed, generation, training_time(run, row), hardware, command]


def over_seeds(group: list[tuple[Run, dict]]) -> list[str] | None:
    """The line of an experiment that was repeated with other seeds, or None if it was not."""
    by_seed: dict[int, list[float]] = {}
    for _, row in group:
        by_seed.setdefault(row["seed"], []).append(row["mean"])
    if len(by_seed) < 2:
        return None
    means = [float(np.mean(values)) for values in by_seed.values()]
    low, high = interval(means)
    line = cells(*group[0])[:6]
    ours = f"**{np.mean(means):.1f}**, 95% interval {low:.1f} to {high:.1f}"
    episodes = sorted({row["episodes"] for _, row in group})
    seeds = f"{len(means)} seeds: " + ", ".join(str(seed) for seed in sorted(by_seed))
    return [*line, ours, "each " + " or ".join(map(str, episodes)), seeds, "", "", "", ""]


def results_table(runs: list[Run]) -> str:
    lines = [cells(run, row) for run in runs for row in run.rows if "mean" not in row]
    for group in groups(runs).values():
        lines += [cells(run, row) for run, row in group]
        lines += [line for line in [over_seeds(group)] if line]
    return table(HEADER, lines)


def temperature_table(runs: list[Run]) -> str:
    """Doom's full agents, trained in the dream at each temperature: published beside ours."""
    tests = [row for run in runs for row in run.rows if "mean" in row and row["task"] == "doom"]
    tests = [row for row in tests if row["features"] == published.FULL["doom"] and row["untrained"] == "none"]

    def ours(temperature: float, kind: str) -> str:
        fit = [row for row in tests if (row["temperature"], row["env"]) == (temperature, kind)]
        tail = (lambda row: f" (seed {row['seed']})") if len(fit) > 1 else (lambda row: "")
        return "<br>".join(f"{row['mean']:.1f} ± {row['std']:.1f}{tail(row)}" for row in fit)

    entries = {entry.get("temperature", entry.get("agent")): entry for entry in published.temperatures()}
    temperatures = sorted({row["temperature"] for row in tests} | {k for k in entries if isinstance(k, float)})
    lines = []
    for key in [*temperatures, *(k for k in entries if isinstance(k, str))]:
        entry = entries.get(key, {})
        theirs = [
            published.plus_minus(entry[f"{kind}_mean"], entry[f"{kind}_std"]) if f"{kind}_mean" in entry else ""
            for kind in published.KINDS
        ]
        mine = ["", ""] if isinstance(key, str) else [ours(key, kind) for kind in published.KINDS]
        lines.append([f"{key:g}" if isinstance(key, float) else key, theirs[0], mine[0], theirs[1], mine[1]])
    return table(["τ", "dream: published", "dream: ours", "real: published", "real: ours"], lines)


def training_section(runs: list[Run], out: Path) -> list[str]:
    text = []
    for task in sorted({run.config.task for run in runs}):
        parts = [part for run in runs for part in (run, *run.parts) if run.config.task == task and part.history]
        if not parts:
            continue
        curves = [(part.name + (f" ({part.config.env})" if task == "doom" else ""), part.history) for part in parts]
        plots.training(out / f"training-{task}.png", task, curves, published.curve(task))
        text += [
            f"![Training curves, {task}](training-{task}.png)\n",
            "Ours over the published curve: mean, best and worst fitness of a generation's candidates, and the "
            "distribution's mean scored on fresh episodes, from which the kept agent is chosen. Hours are ours on "
            f"our machine, theirs on {published.machine()}. Source: {published.curve_source(task)}.\n",
        ]
    return ["## Training of C\n", *text] if text else []


def test_section(runs: list[Run], out: Path) -> list[str]:
    text = []
    by_task: dict[str, list] = {}
    for group in groups(runs).values():
        row = group[0][1]
        title = ", ".join([where(row), row["features"]] + ([row["preset"]] if len(runs) > 1 else []))
        returns = {f"{run.name}, seed {r['seed']}": r["returns"] for run, r in group}
        by_task.setdefault(row["task"], []).append((title, returns, published.score(row)))
    for task, panels in by_task.items():
        plots.histograms(out / f"histogram-{task}.png", task, panels)
        text.append(f"![Returns of test episodes, {task}](histogram-{task}.png)\n")
    return ["## Test episodes\n", *text] if text else []


def model_section(run: Run, out: Path, suffix: str) -> list[str]:
    """V's and M's learning curves and pictures, of one run."""
    text = []
    if run.metrics:
        plots.losses(out / f"losses{suffix}.png", run.metrics)
        text.append(f"![Learning curves of V and M](losses{suffix}.png)\n")
    captions = {"reconstructions": "Frames, and below them V's reconstructions.", "dream*": "A dream of M."}
    for pattern, caption in captions.items():
        for picture in sorted((run.path / "pictures").glob(f"{pattern}.png")):
            name = f"{picture.stem}{suffix}.png"
            with folder.whole(out / name) as beside:
                shutil.copyfile(picture, beside)
            text.append(f"{caption}\n\n![{caption}]({name})\n")
    return [f"## V and M: {run.name}\n", *text] if text else []


def write_report(runs: list[Run], out: Path) -> Path:
    """Writes report.md, its pictures and model_card.md to `out`; the report's path."""
    tasks = sorted({run.config.task for run in runs})
    text = [
        f"# Report: {', '.join(run.name for run in runs)}\n",
        "## Results\n",
        "Mean ± standard deviation over test episodes. The paper and, where nothing else is said, the peers played "
        "CarRacing-v0 and Doom's Take Cover. An empty cell was not measured, or not published.\n",
        results_table(runs),
        *training_section(runs, out),
        *test_section(runs, out),
    ]
    if "doom" in tasks:
        text += ["## Temperatures\n", "Trained in the dream at τ, tested there and in the game.\n"]
        text += [temperature_table(runs)]
    for run in runs:
        text += model_section(run, out, f"-{run.name}" if len(runs) > 1 else "")
    text += ["## What differs from the paper's configuration\n"]
    for run in runs:
        text += [f"{run.name}, seed {run.config.seed}:\n", table(["setting", "here", "paper"], differences(run.config))]
    text += ["## Published scores and their sources\n"]
    for task in tasks:
        text += [f"{task}:\n", table(["agent", "score", "source"], [list(line) for line in published.sources(task)])]
    folder.write_text(out / "report.md", "\n".join(text))
    folder.write_text(out / "model_card.md", card(runs[0]))
    return out / "report.md"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="run folders, one or several")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: report/ in the first run)")
    parser.add_argument("--card", type=Path, metavar="PATH", help="also write the first run's model card to this file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    try:
        runs = read_runs(args.runs)
        print(write_report(runs, args.out or args.runs[0] / "report"))
        if args.card:
            folder.write_text(args.card, card(runs[0]))
            print(args.card)
    except configs.UserError as error:
        configs.exit_with(error)
    except OSError as error:
        configs.exit_with(configs.UserError(str(error)))


if __name__ == "__main__":
    main()
