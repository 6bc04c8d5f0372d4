"""What run folders hold, as the report reads it, and which of their tests and searches are the same experiment."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from world_models import config as configs
from world_models import results
from world_models.runs import artifacts, files
from world_models.runs import run as folders

IGNORED = {"seed": 0, "lanes": 1}  # settings in which runs may differ and be the same experiment
BEST, HISTORY = "controller/best.json", "controller/history.jsonl"


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        path, name, config: its folder, what it is called, and its settings.
        rows: of results.json.
        history, metrics: the lines of controller/history.jsonl and of metrics.jsonl.
        best: controller/best.json; None if there is none.
        made: the rows of manifest.json, by file.
        rounds: the rounds before, the oldest first.
        agents: the runs in agents/, whose V and M are this run's.
    """

    path: Path
    name: str
    config: configs.Config
    rows: list[dict]
    history: list[dict]
    metrics: list[dict]
    best: dict | None
    made: dict[str, dict]
    rounds: tuple["Run", ...] = ()
    agents: tuple["Run", ...] = ()

    @property
    def in_agents(self) -> bool:
        """Whether it lies in another run's agents/."""
        return "/" in self.name

    @property
    def searches(self) -> list["Run"]:
        """The runs whose searches led to this run's agent: this one, and before it the rounds that it went on from."""
        found = [self]
        for earlier in reversed(self.rounds):
            if found[0].config.search_start != "previous":
                break
            found.insert(0, earlier)
        return [run for run in found if run.history]

    @property
    def episodes(self) -> list[int]:
        """Training episodes of C, in each search that led to its agent; [] if one of them has left no history."""
        return [
            run.config.population
            * sum(configs.rollouts_at(run.config.rollouts, line["generation"]) for line in run.history)
            for run in self.searches
        ]


def read_run(path: Path, name: str) -> Run:
    """UserError if `path` is no run, or a file in it is broken."""
    folder = folders.Run(path)
    rounds: tuple[Run, ...] = ()
    for earlier in folder.earlier:
        rounds = (*rounds, _read(earlier, name, rounds))
    agents = tuple(_read(agent, f"{name}/{agent.path.name}", rounds) for agent in folder.agents)
    return _read(folder, name, rounds, agents)


def _read(folder: folders.Run, name: str, rounds: tuple[Run, ...], agents: tuple[Run, ...] = ()) -> Run:
    rows, history = results.read(folder), files.read_lines(folder / HISTORY, "min", "max", "evaluation")
    metrics, best = files.read_lines(folder / "metrics.jsonl"), read_best(folder / BEST)
    made = folder.manifest.rows
    return Run(folder.path, name, folder.config, rows, history, metrics, best, made, rounds, agents)


def read_best(path: Path) -> dict | None:
    """What a best.json says of the kept agent; None if it is missing."""
    if not path.exists():
        return None
    best = files.read_json(path)
    kinds = {"generation": files.optional(files.is_count), "score": files.optional(files.is_number)}
    if wrong := files.describe_type_error(best, {}, kinds):
        raise configs.UserError(f"{path} does not hold an agent: {wrong}")
    return best


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
    """Every test, with the run whose agent it is of: run by run, each with its rounds in their order and then its
    agents. A round that two runs share comes once."""
    found: dict[str, tuple[Run, dict]] = {}
    for run in (one for top in runs for one in (*top.rounds, top, *top.agents)):
        for row in run.rows:
            if "mean" in row:
                key = repr([row[name] for name in results.KEY] + [row.get("returns", run.path)])
                found.setdefault(key, (run, row))
    return list(found.values())


def experiment(run: Run, row: dict) -> tuple:
    """What tests of other seeds of the same experiment share."""
    agent = dataclasses.replace(run.config, **IGNORED)
    return *(row[name] for name in results.EXPERIMENT), *dataclasses.astuple(agent)


def seeds_of(group: list[tuple[Run, dict]]) -> list[tuple[Run, dict]]:
    """The test of most episodes of each seed, by seed."""
    found = {row["seed"]: (run, row) for run, row in sorted(group, key=lambda pair: pair[1].get("episodes", 0))}
    return [found[seed] for seed in sorted(found)]


def searches(runs: list[Run]) -> list[list[Run]]:
    """The runs, their rounds and their agents that have a history; those together that differ only in their seed."""
    found: dict[configs.Config, list[Run]] = {}
    for run in (one for top in runs for one in (*top.rounds, top, *top.agents)):
        group = found.setdefault(dataclasses.replace(run.config, **IGNORED, generations=1), [])
        if run.history and not any(same_search(run, other) for other in group):
            group.append(run)
    return sorted((group for group in found.values() if group), key=lambda group: group[0].config.temperature)


def same_search(one: Run, other: Run) -> bool:
    """Whether two runs hold the same search, as a round does that both went on from."""
    return (one.config.seed, one.history) == (other.config.seed, other.history)


def trainings(runs: list[Run]) -> list[list[Run]]:
    """The runs whose V and M differ only in their seed, together; of runs that share V and M, the first."""
    found: dict[tuple, list[Run]] = {}
    for run in runs:
        names = configs.fields_of("environment", "data", "before", "round", "V", "M")
        key = run.config.task, *(getattr(run.config, name) for name in names if name not in IGNORED)
        trained = tuple(sorted({line["model"] for line in run.metrics}))
        group = found.setdefault((trained, *key) if trained else (run.name,), [])
        if not any(run.metrics == other.metrics for other in group):
            group.append(run)
    return list(found.values())
