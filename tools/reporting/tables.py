"""The report's tables: our numbers from the runs, the published ones beside them."""

import dataclasses

import numpy as np

from tools.reporting.runs import Run, groups
from tools.reporting.words import table
from world_models import config as configs
from world_models import published, statistics, tasks
from world_models.results import EXPERIMENT, dreams_as_released, identity, where
from world_models.runs import run_dir

HEADER = ["task", "environment", "preset", "features", "paper", "peers", "ours: mean ± std", "episodes", "seed",
          "generation", "training time", "hardware of the test", "command"]  # fmt: skip


def duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def seconds_of(lines: list[dict]) -> float:
    """Seconds of a training, from its lines: a resumed one counts from 0 again."""
    seconds = [line["seconds"] for line in lines]
    return sum(now for now, after in zip(seconds, [*seconds, 0][1:], strict=True) if after < now)


def training_time(run: Run, row: dict) -> str:
    """How long V, M and C took, in all rounds, as far as it is logged here; C to the generations that were kept, and in
    all."""
    trained = run.agent(row)
    logs = {letter: trainings_of(run, name) for letter, name in (("V", "vae"), ("M", "rnn"))}
    times = {letter: duration(sum(map(seconds_of, log))) for letter, log in logs.items() if log}
    if trained and trained.history:
        searches = [(origin.history, origin.kept) for origin in run.began_from(trained)]
        searches.append((trained.history, row.get("generation") or 0))
        kept = [seconds_of([line for line in lines if line["generation"] <= last]) for lines, last in searches]
        total = sum(seconds_of(lines) for lines, _ in searches)
        times["C"] = duration(total)
        if kept[-1] > 0 and sum(kept) < total:
            times["C"] = f"{duration(sum(kept))} (evolution {times['C']})"
    return ", ".join(f"{letter} {time}" for letter, time in times.items())


def trainings_of(run: Run, model: str) -> list[list[dict]]:
    """The learning curves of "vae" or "rnn", a training each: those of the rounds before, the oldest first, and the
    run's own; [] if it has none itself, and is not one in which V and M stay as they were."""
    curves = [
        [line for line in metrics if line["model"] == model]
        for metrics in (*(origin.metrics for origin in run.origins), run.metrics)
    ]
    return [curve for curve in curves if curve] if curves[-1] or run.config.models_stay else []


def searches_of(run: Run) -> list[list[dict]]:
    """The histories of the searches for C: those of the rounds before that it went on from, and the run's own; [] if
    it has none itself."""
    return [log for log in (*(origin.history for origin in run.origins), run.history) if log] if run.history else []


def cells(run: Run | None, row: dict) -> list[str]:
    """A row of the results table; what was not measured, be it all that there is to say of a run, is empty."""
    features = row["features"] + (f", untrained {row['untrained']}" if row["untrained"] != "none" else "")
    features += "".join(f", {setting}" for setting in run.varied(row)) if run else ""
    paper = published.text(row) if published.score(row) else ""
    start = [row["task"], where(row), row["preset"], features, paper, "<br>".join(published.peers(row))]
    ours = f"{row['mean']:.1f} ± {row['std']:.1f}" if "mean" in row else ""
    episodes, seed, generation, hardware = (
        "" if row.get(name) is None else str(row[name]) for name in ("episodes", "seed", "generation", "hardware")
    )
    time = training_time(run, row) if run else ""
    return [*start, ours, episodes, seed, generation, time, hardware, launch(row)]


def launch(line: dict) -> str:
    """How the command of a results row, or of the command log, is typed; "" if the row has none."""
    if "command" not in line:
        return ""
    prefix = f"mpirun -n {line['ranks']} " if line.get("ranks", 1) > 1 else ""
    return f"`{prefix}python {line['command']}`"


def seeds_of(group: list[tuple[Run, dict]]) -> list[tuple[Run, dict]]:
    """The test of most episodes of each seed, by seed."""
    found = {row["seed"]: (run, row) for run, row in sorted(group, key=lambda pair: pair[1].get("episodes", 0))}
    return [found[seed] for seed in sorted(found)]


def over_seeds(group: list[tuple[Run, dict]]) -> list[str] | None:
    """The line of an experiment that was repeated with other seeds, or None if it was not."""
    rows = [row for _, row in seeds_of(group)]
    if len(rows) < 2:
        return None
    means = [row["mean"] for row in rows]
    line = cells(*group[0])[:6]
    ours = f"**{np.mean(means):.1f}**"
    if certain := intervals(means):
        ours += f", 95% interval over {len(means)} seeds {certain}"
    else:
        ours += f" (the mean of {len(means)} seeds; an interval over seeds takes {statistics.FEWEST_SEEDS})"
    episodes = sorted({row["episodes"] for row in rows})
    seeds = f"{len(means)} seeds: " + ", ".join(str(row["seed"]) for row in rows)
    return [*line, ours, "each " + " or ".join(map(str, episodes)), seeds, "", "", "", ""]


def intervals(means: list[float]) -> str:
    """The intervals of the mean over seeds, in words; "" of fewer than three seeds."""
    found = statistics.over_seeds(means)
    return ", ".join(f"{low:.1f} to {high:.1f} ({how})" for how, (low, high) in found.items())


def results_table(runs: list[Run]) -> str:
    lines = [cells(run, row) for run in runs for row in run.rows if "mean" not in row]
    for group in groups(runs).values():
        lines += [cells(run, row) for run, row in group]
        lines += [line for line in [over_seeds(group)] if line]
    return table(HEADER, lines)


def unmeasured(rows: list[dict]) -> list[dict]:
    """What the paper reports of its agents and no row of `rows` measured, as rows without a score."""
    wanted = []
    for task in (task for task in tasks.TASKS.values() if task.published):
        paper = tasks.preset(task.name, "paper")
        if not task.evolves_in_dreams:
            wanted += [identity(dataclasses.replace(paper, features=features)) for features in published.AGENTS]
            continue
        for entry in published.temperatures(task.name):
            if "temperature" in entry:
                run = dataclasses.replace(paper, temperature=entry["temperature"])
                wanted += [identity(run, env=kind) for kind in published.KINDS]

    def experiment(row: dict) -> list:
        return [row[name] for name in EXPERIMENT if name != "preset"]

    measured = [experiment(row) for row in rows]
    return [row | {"seed": None} for row in wanted if experiment(row) not in measured]


BEFORE = ["environment", "features", "paper", "ours: mean ± std"]
AFTER = ["seed", "generation", "training time", "hardware of the test", "command"]
SPREAD = ["standard error", "95% interval over episodes", "interquartile mean", "solved"]


def spread(row: dict) -> list[str]:
    """What SPREAD names of a row, "solved" with the mark that counts; empty if nothing was measured or the returns are
    missing, the interval too of fewer than ten episodes."""
    if not row.get("returns"):
        return [""] * len(SPREAD)
    found = statistics.summary(row["returns"], tasks.get(row["task"]).mark)
    certain = "{:.1f} to {:.1f}".format(*found["interval"]) if found["interval"] else ""
    solved = f"{found['solved']:.0%} reach {found['mark']:g}" if "mark" in found else ""
    middle = f"{found['interquartile_mean']:.1f}"
    return [f"{found['standard_error']:.1f}", certain, middle, solved]


def short_table(runs: list[Run]) -> str:
    """The results table with what SPREAD names, without what the peers report and what is the
    same in every row; but with an empty row for each of the paper's agents that is not among the runs."""
    measured, lines = list(groups(runs).values()), []
    missing = unmeasured([row for group in measured for _, row in group])
    for group in [*measured, *([(None, row)] for row in missing)]:
        seeds = seeds_of(group)
        for run, row in group:
            if len(seeds) == 1 or run.agent(row) is run:
                line = dict(zip(HEADER, cells(run, row), strict=True))
                search = searched(run, row) if run else ""
                lines.append(
                    [*(line[n] for n in BEFORE), *spread(row), line["episodes"], search, *(line[n] for n in AFTER)]
                )
        if len(seeds) > 1:
            lines.append(of_seeds(seeds))
    return table([*BEFORE, *SPREAD, "episodes", "C's episodes", *AFTER], lines)


def of_seeds(group: list[tuple[Run, dict]]) -> list[str]:
    """The line of `short_table` for agents that differ in their seed, sorted by it. Standard error and interval are
    over seeds, interquartile mean and solved of all episodes together; where lines differ it has each one's."""
    rows = [row for _, row in group]
    means, lines = [row["mean"] for row in rows], [dict(zip(HEADER, cells(*pair), strict=True)) for pair in group]
    together = spread(rows[0] | {"returns": [value for row in rows for value in row.get("returns", [])]})
    found = f"**{np.mean(means):.1f}** ({', '.join(f'{mean:.1f}' for mean in means)})"
    error = f"{statistics.standard_error(means):.1f} over {len(means)} seeds"

    def each(values: list[str]) -> str:
        return ", ".join(values if len(set(values)) > 1 else values[:1])

    played = f"{len(rows)} × {each([line['episodes'] for line in lines])}"
    search = each([searched(*pair) for pair in group])
    after = [each([line[name] for line in lines]) for name in AFTER]
    same = [lines[0][name] for name in BEFORE[:-1]]
    return [*same, found, error, intervals(means), *together[2:], played, search, *after]


def searched(run: Run, row: dict) -> str:
    """How many training episodes the search for a row's agent has played, in each round; "" if that is not here."""
    agent = run.agent(row)
    if agent is None or not agent.history:
        return ""
    rounds = [(run_dir.load(origin.path), origin.history) for origin in run.began_from(agent) if origin.history]
    played = [
        config.population * sum(configs.rollouts_at(config.rollouts, line["generation"]) for line in history)
        for config, history in [*rounds, (agent.config, agent.history)]
    ]
    return " + ".join(f"{count:,}" for count in played)


def published_table() -> str:
    """Every published score of every task, with its source."""
    lines = [[name, *line] for name, task in tasks.TASKS.items() if task.published for line in published.sources(name)]
    return table(["task", "agent", "score", "source"], lines)


def temperature_table(runs: list[Run], task: str) -> str:
    """A task's full agents, evolved in the dream at each temperature and tested there: published and ours. Dreams that
    begin or end otherwise than the release's are others."""
    tests = [row for run in runs for row in run.rows if "mean" in row and row["task"] == task]
    tests = [row for row in tests if row["features"] == published.full_features(task) and row["untrained"] == "none"]
    tests = [row for row in tests if row["trained_temperature"] == row["temperature"] is not None]
    tests = [row for row in tests if dreams_as_released(row)]

    def ours(temperature: float, kind: str) -> str:
        fit = [row for row in tests if (row["trained_temperature"], row["env"]) == (temperature, kind)]
        tail = (lambda row: f" (seed {row['seed']}, {row['episodes']})") if len(fit) > 1 else (lambda row: "")
        return "<br>".join(f"{row['mean']:.1f} ± {row['std']:.1f}{tail(row)}" for row in fit)

    entries = {entry.get("temperature", entry.get("agent")): entry for entry in published.temperatures(task)}
    temperatures = sorted({row["trained_temperature"] for row in tests} | {k for k in entries if isinstance(k, float)})
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


def differences(config: configs.Config) -> list[list[str]]:
    """(setting, this run's value, the paper's) of all settings that are not the paper's, seed and preset apart."""
    paper = tasks.preset(config.task, "paper")
    pairs = [(f.name, getattr(config, f.name), getattr(paper, f.name)) for f in dataclasses.fields(config)]
    return [[name, str(a), str(b)] for name, a, b in pairs if a != b and name not in ("seed", "preset")]
