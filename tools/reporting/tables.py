"""The report's tables: our numbers from the runs, next to the published ones."""

import dataclasses

import numpy as np

from tools.reporting import names
from tools.reporting.markup import Code, Table
from tools.reporting.runs import BEST, Run, every, experiment, groups_of, seeds_of, tests
from world_models import config as configs
from world_models import published, results, statistics, tasks, text
from world_models.runs.artifacts import M, V
from world_models.text import duration, plus_minus

RESULTS = ("agent", "environment", "C sees", "paper: mean ± std", "ours: mean ± std [standard error]", "95% interval",
           "interquartile mean", "episodes: test / training of C")  # fmt: skip
MADE = ("agent", "generation kept", "training episodes of C", "time of V", "time of M", "time of C", "machine",
        "commit")  # fmt: skip
ROUNDS = ("round", "recorded episodes", "training episodes of C", "environment", "score", "test episodes")
METHOD = (
    "Mean ± standard deviation over test episodes, and in brackets the standard error of the mean. The interval is the "
    "95% percentile bootstrap interval of the mean over episodes, with "
    f"{statistics.RESAMPLES:,} resamples. In a row of several seeds, mean, standard deviation, standard error and "
    f"interval are over the means of the seeds; the interval is then Student's t interval, or from "
    f"{statistics.FEWEST_EPISODES} seeds on the bootstrap's. The interquartile mean leaves out the lowest and the "
    "highest quarter of the episodes."
)


def again(group: list[tuple[Run, dict]]) -> str:
    """The command that repeats a test, or the same test of several seeds' agents, or of all agents in an agents/; "" if
    only the records are there."""
    run, row = group[0]
    dreams = row["play_in"] == "dream"
    if not (run.path / (M if dreams else V)).exists():
        return ""
    usual = {"temperature": run.config.temperature} if dreams else {"variant": "plain", "dtype": "float32"}
    usual |= {} if dreams else {"view": row["view"] and run.config.view, "z": run.config.z}
    flags = ["--play-in dream"] * dreams + [f"--{name} {row[name]}" for name in usual if row[name] != usual[name]]
    command = " ".join(["python evaluate.py --run $run", f"--episodes {row['episodes']}", *flags])
    if not run.in_agents and len(group) == 1:
        return text.printable(command.replace("$run", str(run.path)))
    folders = f"{run.path.parent}/*" if run.in_agents else " ".join(str(one.path) for one, _ in group)
    return text.printable(f"for run in {folders}; do {command}; done")


def cells_of(group: list[tuple[Run, dict]]) -> list[str]:
    """The cells of a test, over its episodes; or those of the same test of agents that differ in their seed alone, over
    the means of the seeds."""
    (run, row), rows = group[0], [row for _, row in group]
    episodes = [value for row in rows for value in row["returns"]]
    values = episodes if len(group) == 1 else [row["mean"] for row in rows]
    mean, std = float(np.mean(values)), float(np.std(values, ddof=len(group) > 1))
    decimals = text.digits(std or mean)
    if len(group) == 1:
        interval = statistics.over_episodes(values)
    else:
        interval = next(iter(statistics.over_seeds(values).values()), None)
    played = ", ".join(dict.fromkeys(f"{row['episodes']:,}" for row in rows))
    searches = ", ".join(dict.fromkeys(f"{sum(run.episodes):,}" for run, _ in group if run.episodes))
    return [
        names.agent(run, [row["seed"] for row in rows]),
        results.where(row),
        names.sees(row),
        published.text(row),
        f"{plus_minus(mean, std)} [{text.number(statistics.standard_error(values), decimals)}]",
        " to ".join(text.number(end, decimals) for end in interval or ()),
        text.number(statistics.interquartile_mean(episodes), decimals),
        (f"{len(rows)} × " if len(rows) > 1 else "") + played + (f" / {searches}" if searches else ""),
    ]


def lines(runs: list[Run]) -> list[list[tuple[Run, dict]]]:
    """The tests of each line of the results table, run by run and round by round. An experiment of several seeds has
    one more line after its last test; of agents/ it has that one alone."""
    found = tests(runs)
    groups = {experiment(*group[0]): group for group in groups_of((experiment(*pair), pair) for pair in found)}
    out = []
    for run, row in found:
        group = groups[experiment(run, row)]
        seeds = seeds_of(group)
        if len(seeds) == 1 or not run.in_agents:
            out.append([(run, row)])
        if len(seeds) > 1 and group[-1][1] is row:
            out.append(seeds)
    return out


def results_table(runs: list[Run]) -> Table:
    return Table(RESULTS, [cells_of(group) for group in lines(runs)])


def results_blocks(runs: list[Run]) -> list[Table | Code]:
    """The results table, and below it the commands of its lines."""
    shown = dict.fromkeys(command for group in lines(runs) if (command := again(group)))
    return [results_table(runs), *([Code("\n".join(shown), "bash")] if shown else [])]


def seconds_of(lines: list[dict]) -> float:
    """Seconds of a training, from its lines: a resumed one counts from 0 again."""
    seconds = [line["seconds"] for line in lines]
    return sum(now for now, after in zip(seconds, [*seconds, 0][1:], strict=True) if after < now)


def trainings_of(run: Run, model: str) -> list[list[dict]]:
    """The learning curves of "vae" or "rnn", a training each: those of the rounds before, the oldest first, and the
    run's own; [] if it has none itself, and is not one in which V and M stay as they were."""
    curves = [[line for line in one.metrics if line["model"] == model] for one in (*run.rounds, run)]
    return [curve for curve in curves if curve] if curves[-1] or run.config.models_stay else []


def time_of(run: Run, letter: str) -> str:
    """How long V, M or C took in a run, without the rounds before: the time in training, or without curves that of the
    commands. In a round in which V and M stay, and in agents/, it says so."""
    name, file = {"V": ("vae", V), "M": ("rnn", M), "C": ("", BEST)}[letter]
    if letter != "C" and (run.in_agents or run.config.models_stay):
        return "as the run" if run.in_agents else f"as round {run.config.round - 1}"
    lines = [line for line in run.metrics if line["model"] == name] if name else run.history
    seconds = seconds_of(lines) or run.made.get(file, {}).get("seconds")
    return duration(seconds) if seconds else ""


def made_table(runs: list[Run]) -> Table:
    """How each agent was made: a row for each round, and one for the seeds of each experiment in agents/."""

    def key(run: Run) -> str:
        if not run.in_agents:
            return repr((run.config, run.history or run.path))
        return repr((run.name.partition("/")[0], dataclasses.replace(run.config, seed=0)))

    def cells(run: Run) -> list[str]:
        kept, row = (run.best or {}).get("generation"), run.made.get(BEST, {})
        generations = "" if kept is None else f"{kept} of {len(run.history)}" if run.history else f"{kept}"
        counts = " + ".join(f"{count:,}" for count in run.episodes)
        place = [row.get("machine") or "", (row.get("commit") or "")[:10]]
        return [generations, counts, *(time_of(run, letter) for letter in "VMC"), *place]

    rows = []
    for group in groups_of((key(run), run) for run in every(runs)):
        group = group if group[0].in_agents else group[:1]  # a round that several runs share is one agent
        columns = zip(*map(cells, group), strict=True)  # seeds that agree are one value
        rows.append([names.search(group), *("; ".join(one if len({*one}) > 1 else one[:1]) for one in columns)])
    return Table(MADE, rows)


def commands_of(run: Run) -> str:
    """The commands that made a run's files, as they are typed, in their order, by its manifest."""
    found = []
    for row in (row for row in run.made.values() if row.get("command")):
        launcher = f"mpirun -n {row['ranks']} " if row.get("ranks", 1) > 1 else ""
        found.append(text.printable(f"{launcher}python {row['command']}"))
    return "\n".join(dict.fromkeys(found))


def published_table(named: list[str] | None = None) -> Table:
    """Every published score of the tasks, with what was played and its source."""
    rows = [row for name in named or tasks.TASKS for row in published.sources(name)]
    return Table(("agent", "played", "score", "episodes", "source"), rows)


def rounds_table(run: Run) -> Table:
    """A row for each round: what was learned from what, and its score in its own environment."""
    rows = []
    for one in (*run.rounds, run):
        config, data, score = one.config, "V and M stay", ["", "", ""]
        if not config.models_stay:
            data = f"{config.episodes:,} {'random' if config.round == 1 else f'of round {config.round - 1}'}"
            data += f", and {config.linked_episodes:,} of earlier rounds" if config.linked_episodes else ""
        if one.test:
            _, where, _, _, ours, *_ = cells_of([(one, one.test)])
            score = [where, ours, f"{one.test['episodes']:,}"]
        rows.append([str(config.round), data, "".join(f"{count:,}" for count in one.episodes[-1:]), *score])
    return Table(ROUNDS, rows)


def differences(config: configs.Config) -> Table:
    """The settings that are not the paper's, seed and preset apart."""
    paper = tasks.preset(config.task, "paper")
    pairs = [(item.name, getattr(config, item.name), getattr(paper, item.name)) for item in dataclasses.fields(config)]
    rows = [[name, str(a), str(b)] for name, a, b in pairs if a != b and name not in ("seed", "preset")]
    return Table(("setting", "here", "paper"), rows)


def scores_by_episodes(runs: list[Run], task: str) -> list[tuple[str, list[tuple[float, float, float]]]]:
    """Ours for `plots.by_episodes`: of each run of the task, of each round in the published view, C's training
    episodes so far, the score of the longest test, and half of its 95% interval."""
    found = []
    for run in (run for run in runs if run.config.task == task):
        tests = [(one, one.test) for one in (*run.rounds, run) if one.test and one.episodes]
        points = [
            (sum(one.episodes), row["mean"], 1.96 * statistics.standard_error(row["returns"]))
            for one, row in tests
            if row["view"] == tasks.get(task).published_view
        ]
        found += [(f"ours by round ({run.name}), with 95% intervals", points)] if points else []
    return found
