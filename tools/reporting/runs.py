"""What run folders hold, as the report reads it, and which of their tests and searches are the same experiment."""

import dataclasses
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TypeVar

from world_models import config as configs
from world_models import results
from world_models.runs import artifacts, files
from world_models.runs import run as folders
from world_models.text import printable

T = TypeVar("T")
IGNORED = {"seed": 0, "lanes": 1}  # settings in which runs may differ and be the same experiment
BEST, HISTORY = "controller/best.json", "controller/history.jsonl"


class Run:
    """What a run folder holds. UserError if it is no run, or a file in it is broken.

    Attributes:
        path, name, config: its folder, what it is called, and its settings.
        rows: of results.json.
        history, metrics: the lines of controller/history.jsonl and of metrics.jsonl.
        best: what controller/best.json says of the kept agent; None if there is none.
        made: the rows of manifest.json, by file.
        rounds: the rounds before, the oldest first.
        agents: the runs in agents/, whose V and M are this run's.
    """

    def __init__(self, folder: folders.Run, name: str, rounds: list["Run"], agents: list["Run"]):
        self.path, self.name, self.config, self.made = folder.path, printable(name), folder.config, folder.manifest.rows
        self.rows, self.rounds, self.agents = results.read(folder), rounds, agents
        self.history = files.read_lines(folder / HISTORY, "min", "max", "evaluation")
        self.metrics = files.read_lines(folder / "metrics.jsonl")
        self.best = files.read_json(folder / BEST) if (folder / BEST).exists() else None
        kinds = {"generation": files.optional(files.is_count), "score": files.optional(files.is_number)}
        if wrong := self.best is not None and files.describe_type_error(self.best, {}, kinds):
            raise configs.UserError(f"{folder / BEST} does not hold an agent: {wrong}")

    @property
    def test(self) -> dict | None:
        """The longest of the tests that count for its agent (`results.is_headline`); None if there is none."""
        rows = [row for row in self.rows if results.is_headline(self.config, row)]
        return max(rows, key=lambda row: row["episodes"], default=None)

    @property
    def in_agents(self) -> bool:
        """Whether it lies in another run's agents/."""
        return "/" in self.name

    @property
    def searches(self) -> list["Run"]:
        """The runs whose searches led to its agent: this one, and before it the rounds that it went on from."""
        found = [self]
        for earlier in reversed(self.rounds):
            if found[0].config.search_start != "previous":
                break
            found.insert(0, earlier)
        return [run for run in found if run.history]

    @property
    def episodes(self) -> list[int]:
        """Training episodes of C, in each search that led to its agent; [] if one of them has left no history."""
        counts = [(run.config, [line["generation"] for line in run.history]) for run in self.searches]
        return [c.population * sum(configs.rollouts_at(c.rollouts, number) for number in done) for c, done in counts]


def read_run(path: Path, name: str) -> Run:
    """A run with its rounds and agents."""
    folder = folders.Run(path)
    rounds: list[Run] = []
    for earlier in folder.earlier:
        rounds = [*rounds, Run(earlier, name, rounds, [])]
    agents = [Run(agent, f"{name}/{agent.path.name}", rounds, []) for agent in folder.agents]
    return Run(folder, name, rounds, agents)


def every(runs: list[Run]) -> list[Run]:
    """Run by run, each with its rounds in their order before it and its agents after it."""
    return [one for run in runs for one in (*run.rounds, run, *run.agents)]


def read_runs(paths: list[Path]) -> list[Run]:
    """The runs, named by their folders; by their whole paths where two folders have the same name. A folder that is
    given twice, or lies in another's agents/, is read once."""
    found = {path.resolve(): path for path in reversed(paths)}
    below = {part.resolve() for path in found for part in path.glob(f"{artifacts.AGENTS}/*")}
    paths = [path for path in dict.fromkeys(found[path.resolve()] for path in paths) if path.resolve() not in below]
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path).strip("/").replace("/", "-") for path in paths]
    return [read_run(path, name) for path, name in zip(paths, names, strict=True)]


def tests(runs: list[Run]) -> list[tuple[Run, dict]]:
    """Every test, with the run whose agent it is of. A round that two runs share comes once."""
    found: dict[str, tuple[Run, dict]] = {}
    for run in every(runs):
        for row in run.rows:
            found.setdefault(repr([row[name] for name in results.KEY] + [row["returns"]]), (run, row))
    return list(found.values())


def experiment(run: Run, row: dict) -> tuple:
    """What tests of other seeds of the same experiment share."""
    agent = dataclasses.replace(run.config, **IGNORED)
    return *(row[name] for name in results.EXPERIMENT), *dataclasses.astuple(agent)


def seeds_of(group: list[tuple[Run, dict]]) -> list[tuple[Run, dict]]:
    """The test of most episodes of each seed, by seed."""
    found = {row["seed"]: (run, row) for run, row in sorted(group, key=lambda pair: pair[1].get("episodes", 0))}
    return [found[seed] for seed in sorted(found)]


def groups_of(pairs: Iterable[tuple[Hashable, T]]) -> list[list[T]]:
    """The values of (key, value) pairs whose keys are equal, together."""
    found: dict[Hashable, list[T]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return list(found.values())


def searches(runs: list[Run]) -> list[list[Run]]:
    """The runs, their rounds and their agents that have a history; those together that differ only in their seed. A
    search that two runs went on from comes once."""
    found: dict[tuple, Run] = {}
    for run in every(runs):
        if run.history:
            same = dataclasses.replace(run.config, **IGNORED, generations=1)
            found.setdefault((same, run.config.seed, repr(run.history)), run)
    groups = groups_of((same, run) for (same, *_), run in found.items())
    return sorted(groups, key=lambda group: group[0].config.temperature)


def trainings(runs: list[Run]) -> list[list[Run]]:
    """The runs whose V and M differ only in their seed, together; of runs that share V and M, the first."""
    names = ["task", *configs.fields_of("environment", "data", "lineage", "round", "V", "M")]
    found: dict[tuple, Run] = {}
    for run in runs:
        settings = tuple(getattr(run.config, name) for name in names if name not in IGNORED)
        trained = (*sorted({line["model"] for line in run.metrics}), *settings) if run.metrics else (run.name,)
        found.setdefault((trained, repr(run.metrics)), run)
    return groups_of((trained, run) for (trained, _), run in found.items())
