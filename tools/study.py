"""Compares settings of the search at equal episodes: each from the same V and M, with several seeds.

    mpirun -n 2 python -m tools.study --run pretrained/doom --out runs/study --episodes 6144 --temperature 1.3
    mpirun -n 2 python -m tools.study --run pretrained/carracing --out runs/study-car --settings 48x4,24x2

Every setting and seed is a run of its own, DIR/SETTING/seed-S: the same command again goes on where it stopped, with
more or fewer episodes, or other settings, beyond. Writes DIR/search.md, a table, DIR/search.png, the score of the
search's mean on fresh episodes over the episodes spent, and DIR/search.json, the numbers of both. All are made anew
after every run, from all that there are; of runs that are no longer there, search.json keeps the scores, and
DIR/study.json what they are scores of.
"""

import json
import math
from pathlib import Path

import numpy as np

import config as configs
import tasks
from common import command_line, lock, mpi, run_dir, storage
from common.integrity import digests, read_json
from common.training import quiet_tensorflow
from controller.evolution import evolve

# What each changes of "48x4". A rising schedule begins with few episodes a candidate: early, generations count.
BASE = dict(population=48, rollouts="4", seeds="common", optimizer="cma", sigma=0.1, patience=0)
SETTINGS = {
    "48x4": {},
    "24x2": dict(population=24, rollouts="2"),
    "24x4": dict(population=24),
    "48x1": dict(rollouts="1"),
    "64x16": dict(population=64, rollouts="16"),
    "24-rising": dict(population=24, rollouts="1,15:2,30:4,50:8"),
    "48-rising": dict(rollouts="1,15:2,30:4,50:8"),
    "pairs": dict(seeds="pairs"),
    "sigma-0.05": dict(sigma=0.05),
    "sigma-0.2": dict(sigma=0.2),
    "diagonal": dict(optimizer="cma-diagonal"),
    "tpa": dict(optimizer="cma-tpa"),
    "cmean-0.5": dict(optimizer="cma-cmean"),
    "openai-es": dict(optimizer="openai-es"),
    "ga": dict(optimizer="ga"),
    "patience-20": dict(patience=20),
    "48-rising-patience-20": dict(rollouts="1,15:2,30:4,50:8", patience=20),
}

COURSE = ("spent", "seconds", "steps", "score")  # what is kept of a run, generation by generation
EARLY = 30  # generations


def generations_for(setting: dict, episodes: int) -> int:
    """The generations that spend at most `episodes`, one at least."""
    generation, spent = 0, 0
    while True:
        spent += setting["population"] * configs.rollouts_at(setting["rollouts"], generation + 1)
        if spent > episodes and generation:
            return generation
        generation += 1
        if spent >= episodes:
            return generation


def spent_by(config: configs.Config) -> np.ndarray:
    """Training episodes spent by the end of each generation, (generations,)."""
    each = [configs.rollouts_at(config.rollouts, g) for g in range(1, config.generations + 1)]
    return config.population * np.cumsum(each)


def valid(name: str, base: configs.Config) -> bool:
    """Whether a setting holds for what `base` is evolved in: some environments have no episodes to end early."""
    return not SETTINGS[name].get("patience") or (base.env == "real" and tasks.get(base.task).idle_reward is not None)


def overrides(name: str, seed: int, base: configs.Config, args) -> dict:
    """The fields in which a run of the study differs from the run that V and M are from."""
    setting = BASE | SETTINGS[name]
    generations = generations_for(setting, args.episodes)
    last = setting["population"] * configs.rollouts_at(setting["rollouts"], generations)  # the largest generation
    given = {
        "seed": seed,
        "generations": generations,
        "eval_every": max(1, round(args.every / last)),
        "eval_episodes": args.test_episodes,
    }
    if base.round > 1:
        given["restart"] = "yes"  # from zero, not from the agent of the round before
    given |= {name: value for name in ("temperature", "lanes") if (value := getattr(args, name)) is not None}
    return setting | given


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


def chosen(text: str | None, base: configs.Config) -> list[str]:
    """'48x4,24x2' -> names of settings, None -> all that hold for `base`; UserError for one that there is not, or that
    does not hold."""
    if text is None:
        return [name for name in SETTINGS if valid(name, base)]
    names = text.split(",")
    unknown = [name for name in names if name not in SETTINGS]
    if unknown:
        raise configs.UserError(f"--settings: expected some of {', '.join(SETTINGS)}, got {', '.join(unknown)}")
    for name in names:
        if not valid(name, base):
            raise configs.UserError(f"--settings {name}: nothing is known to be lost early in {base.task}, {base.env}")
    return names


# Beside V and M, what decides what a score is of; the settings of the search are in the names of the runs.
SCORED = ("env", "view", "pixels", "max_frames", "temperature", "dream_starts", "dream_frames", "dream_end", "features")


def require_same(out: Path, run: Path, base: configs.Config, args) -> None:
    """UserError if the scores in `out` are of another V or M, or of other episodes, than this study's would be."""
    made = digests(run, "vae", "rnn") | {name: getattr(base, name) for name in SCORED}
    made["test_episodes"] = args.test_episodes
    if args.temperature is not None:
        made["temperature"] = args.temperature
    path = out / "study.json"
    before = read_json(path) if path.exists() else made
    if before != made:
        other = ", ".join(name for name in made if before.get(name) != made[name])
        raise configs.UserError(f"{out} holds a study of another {other}; choose another --out")
    storage.write_text(path, json.dumps(made, indent=1) + "\n")


def complete(out: Path, run: Path, episodes: int) -> bool:
    """Whether search.json has all scores of a run that is no longer there."""
    kept = courses(out).get(str(run.relative_to(out)))
    scored = points(kept) if kept else []
    return not run.exists() and bool(scored) and not math.isnan(at_end(scored, episodes))


def open_run(run: Path, given: dict, base: Path) -> configs.Config:
    """A run of the study; one that is there already keeps its generations if they are more, and is scored as often as
    before."""
    if (run / "config.json").exists():
        begun = run_dir.load(run)
        more = max(given["generations"], begun.generations)
        given |= {"generations": more, "eval_every": begun.eval_every}
    return run_dir.open_run(run, given, base)


def main(comm) -> None:
    parser = command_line.Parser(description=__doc__, quiet=comm.rank > 0)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run whose V and M are used")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the study's runs are")
    parser.add_argument("--settings", metavar="NAME,NAME", help="which (default: all that hold for the run)")
    parser.add_argument("--seeds", type=command_line.count, default=3, help="runs of each setting (default 3)")
    parser.add_argument(
        "--episodes", type=command_line.count, default=6144, help="training episodes of a run (default 6144)"
    )
    parser.add_argument(
        "--every", type=command_line.count, default=500, help="episodes between two scorings (default 500)"
    )
    parser.add_argument(
        "--test-episodes", type=command_line.count, default=64, help="episodes of a scoring (default 64)"
    )
    parser.add_argument("--temperature", type=float, help="of the dream (default: the run's)")
    parser.add_argument("--lanes", type=command_line.count, help="of a rank (default: the run's)")
    parser.add_argument("--mark", type=float, help="also say how many episodes it takes to this score")
    args = parser.parse_args()
    base = mpi.on_root(comm, run_dir.load, args.run)
    names = mpi.on_root(comm, chosen, args.settings, base)
    mpi.on_root(comm, run_dir.need_models, args.run)
    mpi.on_root(comm, require_same, args.out, args.run, base, args)
    quiet_tensorflow()
    for seed in range(args.seeds):
        for name in names:
            run = args.out / name / f"seed-{seed}"
            if mpi.on_root(comm, complete, args.out, run, args.episodes):
                continue
            with lock.hold(run, comm):
                config = mpi.on_root(comm, open_run, run, overrides(name, seed, base, args), args.run)
                if comm.rank == 0:
                    print(f"{name}, seed {seed}: {config.generations} generations", flush=True)
                evolve(comm, run, config)
            mpi.on_root(comm, write, args.out, args.episodes, args.mark)
    if comm.rank == 0:
        found = by_setting(args.out)
        print(json.dumps({name: [points(run)[-1] for run in runs] for name, runs in found.items()}))
        print(f"{args.out}/search.md, {args.out}/search.png")


if __name__ == "__main__":
    mpi.launch(main)
