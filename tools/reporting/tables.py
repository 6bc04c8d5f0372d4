"""The report's tables: our numbers from the runs, the published ones beside them."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from tools.reporting import names
from tools.reporting.markup import Code, Table
from tools.reporting.runs import BEST, Run, experiment, seeds_of, tests
from world_models import config as configs
from world_models import published, results, statistics, tasks, text
from world_models.runs.artifacts import M, V
from world_models.text import duration, plus_minus

RESULTS = ("agent", "environment", "C sees", "paper: mean ± std", "ours: mean ± std [standard error]", "95% interval",
           "interquartile mean", "episodes: test / training of C")  # fmt: skip
MADE = (
    "agent",
    "generation kept",
    "training episodes of C",
    "time of V",
    "time of M",
    "time of C",
    "machine",
    "commit",
)
METHOD = (
    "Mean ± standard deviation over test episodes, and in brackets the standard error of the mean. The interval is the "
    "95% percentile bootstrap interval of the mean over episodes, with "
    f"{statistics.RESAMPLES:,} resamples. In a row of several seeds, mean, standard deviation, standard error and "
    f"interval are over the means of the seeds; the interval is then Student's t interval, or from "
    f"{statistics.FEWEST_EPISODES} seeds on the bootstrap's. The interquartile mean leaves out the lowest and the "
    "highest quarter of the episodes."
)


@dataclass(frozen=True)
class Line:
    """A line of the results table.

    Attributes:
        agent, where, sees, paper: whose test, of what, and what the paper reports; in words.
        mean, std, error, interval: over episodes, or over seeds' means. error and interval are None where there are too
            few values or no returns.
        middle: the interquartile mean of all episodes; None without returns.
        played, searched: test episodes, and training episodes of C, in words.
        command: the command of the test, as it can be typed; "" if unknown.
    """

    agent: str
    where: str
    sees: str
    paper: str
    mean: float
    std: float
    error: float | None
    interval: tuple[float, float] | None
    middle: float | None
    played: str
    searched: str
    command: str

    def cells(self) -> list[str]:
        ours = plus_minus(self.mean, self.std)
        decimals = text.digits(self.std or self.mean)
        error = "" if self.error is None else f" [{text.number(self.error, decimals)}]"
        interval = " to ".join(text.number(end, decimals) for end in self.interval or ())
        middle = "" if self.middle is None else text.number(self.middle, decimals)
        episodes = f"{self.played} / {self.searched}" if self.searched else self.played
        return [self.agent, self.where, self.sees, self.paper, ours + error, interval, middle, episodes]


def launch(row: dict) -> str:
    """How a command of a row of results, or of the manifest, is typed; "" if the row has none."""
    if not row.get("command"):
        return ""
    prefix = f"mpirun -n {row['ranks']} " if row.get("ranks", 1) > 1 else ""
    return text.printable(f"{prefix}python {row['command']}")


def of_test(run: Run, row: dict) -> Line:
    """The line of one test."""
    returns = row.get("returns")
    found = statistics.summary(returns) if returns else row
    paper = published.text(row) if published.score(row) else ""
    interval = tuple(found["interval"]) if found.get("interval") else None
    return Line(
        names.agent(run), results.where(row), names.sees(row), paper, row["mean"], row["std"],
        found.get("standard_error"), interval, found.get("interquartile_mean"), f"{row['episodes']:,}",
        searched(run), launch(row),
    )  # fmt: skip


def of_seeds(group: list[tuple[Run, dict]]) -> Line:
    """The line of agents that differ in their seed alone."""
    (run, row), rows = group[0], [row for _, row in group]
    means = [row["mean"] for row in rows]
    every = [value for row in rows for value in row.get("returns", [])]
    played = ", ".join(dict.fromkeys(f"{row['episodes']:,}" for row in rows))
    counts = ", ".join(dict.fromkeys(searched(run) for run, _ in group))
    commands = "\n".join(dict.fromkeys(launch(row) for row in rows))
    return dataclasses.replace(
        of_test(run, row),
        agent=names.agent(run, [row["seed"] for row in rows]),
        mean=float(np.mean(means)),
        std=float(np.std(means, ddof=1)),
        error=statistics.standard_error(means),
        interval=next(iter(statistics.over_seeds(means).values()), None),
        middle=statistics.interquartile_mean(every) if every else None,
        played=f"{len(rows)} × {played}",
        searched=counts,
        command=commands.strip(),
    )


def lines(runs: list[Run]) -> list[Line]:
    """The lines of the results table: run by run and round by round. An experiment of several seeds has one more line
    after its last test; of agents/ it has that one alone."""
    found = tests(runs)
    groups: dict[tuple, list[tuple[Run, dict]]] = {}
    for pair in found:
        groups.setdefault(experiment(*pair), []).append(pair)
    out = []
    for run, row in found:
        group = groups[experiment(run, row)]
        seeds = seeds_of(group)
        if len(seeds) == 1 or not run.in_agents:
            out.append(of_test(run, row))
        if len(seeds) > 1 and group[-1][1] is row:
            out.append(of_seeds(seeds))
    return out


def searched(run: Run) -> str:
    """How many training episodes the searches for an agent have played together; "" if that is not known."""
    return f"{sum(run.episodes):,}" if run.episodes else ""


def results_table(runs: list[Run]) -> Table:
    return Table(RESULTS, [line.cells() for line in lines(runs)])


def results_blocks(runs: list[Run]) -> list[Table | Code]:
    """The results table, and below it the commands of its lines."""
    commands: dict[str, list[str]] = {}
    for line in lines(runs):
        commands.setdefault(line.command, []).append(f"# {line.agent}: {line.where}, {line.played} episodes")
    shown = ["\n".join([*said, command]) for command, said in commands.items() if command]
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
    groups: dict[str, list[Run]] = {}
    for run in (one for top in runs for one in (*top.rounds, top, *top.agents)):
        key = repr((run.name.partition("/")[0], dataclasses.replace(run.config, seed=0)))
        groups.setdefault(key if run.in_agents else repr((run.config, run.history or run.path)), []).append(run)
    rows = []
    for group in groups.values():
        group = group if group[0].in_agents else group[:1]
        cells = zip(*map(made_cells, group), strict=True)
        rows.append(
            [names.search(group), *("; ".join(values if len(set(values)) > 1 else values[:1]) for values in cells)]
        )
    return Table(MADE, rows)


def made_cells(run: Run) -> list[str]:
    """All cells of a run's row in `made_table` but the first."""
    kept, row = (run.best or {}).get("generation"), run.made.get(BEST, {})
    generations = "" if kept is None else f"{kept} of {len(run.history)}" if run.history else f"{kept}"
    counts = " + ".join(f"{count:,}" for count in run.episodes)
    place = [row.get("machine") or "", (row.get("commit") or "")[:10]]
    return [generations, counts, *(time_of(run, letter) for letter in "VMC"), *place]


def commands_of(run: Run) -> str:
    """The commands that made a run's files, in their order, by its manifest."""
    return "\n".join(dict.fromkeys(command for row in run.made.values() if (command := launch(row))))


def published_table(named: list[str] | None = None) -> Table:
    """Every published score of the tasks, with what was played and its source."""
    chosen = [name for name, task in tasks.TASKS.items() if task.published and (named is None or name in named)]
    header = ("agent", "played", "score", "episodes", "source")
    return Table(header, [list(line) for name in chosen for line in published.sources(name)])


def rounds_table(run: Run) -> Table:
    """A row for each round: what was learned from what, and its score in its own environment."""
    rows = []
    for one in (*run.rounds, run):
        config = one.config
        own = [row for row in one.rows if "mean" in row and results.is_headline(config, row)]
        best = max(own, key=lambda row: row["episodes"], default=None)
        line = of_test(one, best).cells() if best else []
        data = (
            f"{config.episodes:,} random" if config.round == 1 else f"{config.episodes:,} of round {config.round - 1}"
        )
        data = "V and M stay" if config.models_stay else data
        data += (
            f", and {config.linked_episodes:,} of earlier rounds"
            if config.linked_episodes and not config.models_stay
            else ""
        )
        score = [line[1], line[4], f"{best['episodes']:,}"] if best else ["", "", ""]
        rows.append([str(config.round), data, "".join(f"{count:,}" for count in one.episodes[-1:]), *score])
    header = ("round", "recorded episodes", "training episodes of C", "environment", "score", "test episodes")
    return Table(header, rows)


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
        points = []
        for one in (*run.rounds, run):
            own = [row for row in one.rows if "mean" in row and results.is_headline(one.config, row)]
            own = [row for row in own if row["view"] == tasks.get(task).published_view]
            if own and one.episodes:
                row = max(own, key=lambda row: row["episodes"])
                points.append((sum(one.episodes), row["mean"], 1.96 * (of_test(one, row).error or 0)))
        if points:
            found.append((f"ours by round ({run.name}), with 95% intervals", points))
    return found
