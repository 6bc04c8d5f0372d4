"""What the runs of a study scored: generation by generation, as a table and as a plot."""

import json
import math
from pathlib import Path

import numpy as np

from tools.study_settings import BASE, SETTINGS
from world_models import config as configs
from world_models.runs import run_dir, storage
from world_models.runs.integrity import read_json

COURSE = ("spent", "seconds", "steps", "score")  # what is kept of a run, generation by generation
EARLY = 30  # generations


def spent_by(config: configs.Config) -> np.ndarray:
    """Training episodes spent by the end of each generation, (generations,)."""
    each = [configs.rollouts_at(config.rollouts, g) for g in range(1, config.generations + 1)]
    return config.population * np.cumsum(each)


def course(run: Path) -> dict[str, list]:
    """A run so far, by generation: "spent", training episodes by its end, "seconds" until then, "steps", the mean of an
    episode's, and "score" of the mean, None if it was not scored."""
    spent = spent_by(run_dir.load(run))
    path = run / "controller" / "history.jsonl"
    try:
        rows = [
            (
                int(spent[range(1, len(spent) + 1).index(line["generation"])]),
                float(line["seconds"]),
                float(line["mean_steps"]),
                float(line["evaluation"]["mean"]) if line["evaluation"] else None,
            )
            for line in storage.read_lines(path)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise configs.UserError(f"{path} is not a history of this run: {error!r}") from None
    return dict(zip(COURSE, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}


def courses(out: Path) -> dict[str, dict]:
    """Every run so far, by "SETTING/seed-S": of those in `out`, and in its search.json."""
    path = out / "search.json"
    kept = read_json(path) if path.exists() else {}
    for found in kept.values():
        if not isinstance(found, dict) or found.keys() != set(COURSE) or len({len(x) for x in found.values()}) != 1:
            raise configs.UserError(f"{path} does not hold the courses of a study's runs; expected of each {COURSE}")
    runs = [path.parent for name in SETTINGS for path in sorted((out / name).glob("seed-*/config.json"))]
    return kept | {str(run.relative_to(out)): found for run in runs if (found := course(run))}


def points(found: dict[str, list]) -> list[tuple[int, float]]:
    """(episodes spent, score of the mean) at every scoring of a run."""
    return [(n, score) for n, score in zip(found["spent"], found["score"], strict=True) if score is not None]


def by_setting(out: Path) -> dict[str, list[dict]]:
    """Every setting's runs so far that have been scored, seed by seed, in the order of SETTINGS."""
    found = courses(out)
    runs = {name: [found[key] for key in sorted(found) if key.startswith(f"{name}/seed-")] for name in SETTINGS}
    scored = {name: [run for run in each if points(run)] for name, each in runs.items()}
    return {name: each for name, each in scored.items() if each}


def to_mark(found: dict[str, list], mark: float, of: str) -> float:
    """What of a run, "spent" or "seconds", had passed when its mean was first scored the mark; NaN if it was not."""
    scored = zip(found[of], found["score"], strict=True)
    return next((passed for passed, score in scored if score is not None and score >= mark), math.nan)


def at(run: list[tuple[int, float]], episodes: float) -> float:
    """The score after so many episodes, between two scorings on the line that joins them; NaN outside."""
    spent, scores = zip(*run, strict=True)
    return float(np.interp(episodes, spent, scores, left=np.nan, right=np.nan))


def at_end(run: list[tuple[int, float]], episodes: int) -> float:
    """The score after the budget, for which a last scoring counts that stands a little before its end."""
    return at(run, min(episodes, run[-1][0])) if run[-1][0] > 0.9 * episodes else math.nan


def summary(values: list[float]) -> str:
    """Mean ± standard error over seeds; empty if a seed has none."""
    if not values or not np.isfinite(values).all():
        return ""
    if len(values) == 1:
        return f"{values[0]:.0f}"
    return f"{np.mean(values):.0f} ± {np.std(values, ddof=1) / math.sqrt(len(values)):.0f}"


def table(out: Path, episodes: int, mark: float | None) -> str:
    """A row a setting: its scores at four quarters of the budget, and the mean steps of an episode in its first
    generations; with `mark`, also the episodes and seconds until the mean was first scored so much."""
    steps = [episodes * k // 4 for k in (1, 2, 3, 4)]
    head = ["setting", "changes", "seeds", *(f"{n:,} episodes" for n in steps)]
    head += [f"episodes to {mark:g}", f"seconds to {mark:g}"] if mark is not None else []
    head.append(f"steps an episode, first {EARLY} generations")
    rows = [head, ["---"] * len(head)]
    for name, found in by_setting(out).items():
        changes = ", ".join(f"`--{key} {value}`" for key, value in SETTINGS[name].items()) or "no"
        runs = [points(run) for run in found]
        cells = [summary([at(run, n) for run in runs]) for n in steps[:-1]]
        cells.append(summary([at_end(run, steps[-1]) for run in runs]))
        if mark is not None:
            cells += [summary([to_mark(run, mark, of) for run in found]) for of in ("spent", "seconds")]
        cells.append(summary([float(np.mean(run["steps"][:EARLY])) for run in found]))
        rows.append([name, changes, str(len(runs)), *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def report(out: Path, episodes: int, mark: float | None) -> str:
    """The table, and what stands above it."""
    base = ", ".join(f"`--{key} {value}`" for key, value in BASE.items())
    return (
        f"Score of the search's mean on fresh episodes, mean ± standard error over seeds. All have {base}, and change "
        "what stands beside them; they spend equal episodes, as far as they fill complete generations.\n\n"
        f"{table(out, episodes, mark)}\n\n![Score over episodes](search.png)\n"
    )


def draw(out: Path) -> None:
    """A line a setting: the mean over its seeds where all have a score, and a band of one standard error."""
    from matplotlib.figure import Figure

    found = {name: [points(run) for run in runs] for name, runs in by_setting(out).items()}
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, runs) in enumerate(found.items()):
        grid = sorted({n for run in runs for n, _ in run})
        grid = [n for n in grid if all(run[0][0] <= n <= run[-1][0] for run in runs)]
        values = np.array([[at(run, n) for n in grid] for run in runs])
        style = "-" if number < 10 else "--"
        [line] = axes.plot(grid, values.mean(axis=0), style, marker=".", color=f"C{number % 10}", label=name)
        if len(runs) > 1:
            error = values.std(axis=0, ddof=1) / math.sqrt(len(runs))
            low, high = values.mean(axis=0) - error, values.mean(axis=0) + error
            axes.fill_between(grid, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="training episodes spent", ylabel="score of the mean, fresh episodes")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=2)
    with storage.atomic_write(out / "search.png") as tmp:
        figure.savefig(tmp, format="png", dpi=120)


def write(out: Path, episodes: int, mark: float | None) -> None:
    storage.write_text(out / "search.json", json.dumps(courses(out)) + "\n")
    storage.write_text(out / "search.md", report(out, episodes, mark))
    draw(out)
