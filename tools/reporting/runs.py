"""What run folders hold, as the report reads it, and which of their tests are the same experiment."""

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tools.reporting.origins import Origin, origins
from world_models import config as configs
from world_models import published, results, tasks
from world_models.runs import integrity, run_dir, storage

IGNORED = {"seed": 0, "lanes": 1}  # settings in which runs may differ and be the same experiment


@dataclass(frozen=True)
class Run:
    """What a run folder holds. `parts` are the runs in its agents/."""

    path: Path
    name: str
    config: configs.Config
    rows: list[dict] = field(default_factory=list)  # results.json, its own and its parts'
    history: list[dict] = field(default_factory=list)  # controller/history.jsonl
    metrics: list[dict] = field(default_factory=list)  # metrics.jsonl
    best: dict | None = None  # controller/best.json
    parts: tuple["Run", ...] = ()

    @cached_property
    def origins(self) -> list[Origin]:
        """What counts of the runs that this one began from, the oldest first: it may read their folders."""
        return origins(self.path)

    def agent(self, row: dict) -> "Run | None":
        """The run that evolved the agent of a row of `rows`: this one, a part, or None if it is not here."""
        part = next((part for part in self.parts if any(row is own for own in part.rows)), None)
        if part or not tasks.get(self.config.task).evolves_in_dreams:
            return part or self
        return self if row["trained_temperature"] == results.trained_temperature(self.config) else None

    def varied(self, row: dict) -> list[str]:
        """How a part differs from this run, if a row's agent is one's: as its folder says, but for what rows say."""
        agent = self.agent(row)
        settings = agent.path.name.split(",") if agent in self.parts else []
        return [each for each in settings if each.split("-")[0] not in ("seed", "features", "temperature")]

    def began_from(self, agent: "Run") -> list[Origin]:
        """What counts of the runs that the search for an agent of this run went on from: of a part nothing if it began
        from zero, else what counts for the run."""
        return self.origins if agent is self or agent.config.restart == "no" else []


def read_run(path: Path, name: str) -> Run:
    """UserError if `path` is no run, or a file in it is broken."""
    config = run_dir.load(path)
    below = sorted(found.parent for found in path.glob(f"{run_dir.AGENTS}/*/config.json"))
    parts = tuple(read_run(part, f"{name}/{part.name}") for part in below)
    rows = results.read(path / "results.json")
    rows += [row for part in parts for row in part.rows if "mean" in row]
    return Run(
        path,
        name,
        config,
        rows or [results.identity(config)],
        storage.read_lines(path / "controller" / "history.jsonl", "min", "max", "evaluation"),
        storage.read_lines(path / "metrics.jsonl"),
        read_best(path / "controller" / "best.json"),
        parts,
    )


def read_best(path: Path) -> dict | None:
    """What a best.json says of the kept agent; None if it is missing."""
    if not path.exists():
        return None
    best = integrity.read_json(path)
    kinds = {"generation": integrity.is_count, "score": integrity.is_number}
    known = {name: value for name, value in best.items() if value is not None}  # an imported one has no generation
    if wrong := integrity.mistyped(known, {}, kinds):
        raise configs.UserError(f"{path} does not hold an agent: {wrong}")
    return best


def read_runs(paths: list[Path]) -> list[Run]:
    """The runs, named by their folders; by their whole paths where two folders have the same name. A folder that is
    given twice, or lies in another's agents/, is read once."""
    folders = {path.resolve(): path for path in reversed(paths)}
    below = {part.resolve() for path in folders for part in path.glob(f"{run_dir.AGENTS}/*")}
    paths = [path for path in dict.fromkeys(folders[path.resolve()] for path in paths) if path.resolve() not in below]
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path).strip("/").replace("/", "-") for path in paths]
    return [read_run(path, name) for path, name in zip(paths, names, strict=True)]


def groups(runs: list[Run]) -> dict[tuple, list[tuple[Run, dict]]]:
    """The measured rows of all runs by experiment, and by every setting of their agent's run but its seed.

    The full agent comes first, tested as trained; agents of dreams are sorted by temperature, dream before real.
    """
    found: dict[tuple, list] = {}
    for run in runs:
        for row in run.rows:
            if "mean" in row:
                agent = dataclasses.replace((run.agent(row) or run).config, **IGNORED)
                key = *(row[name] for name in results.EXPERIMENT), *dataclasses.astuple(agent)
                found.setdefault(key, []).append((run, row))

    def order(key: tuple) -> tuple:
        values = dict(zip(results.EXPERIMENT, key, strict=False))
        lesser = values["features"] != published.full_features(values["task"]), values["dtype"] != "float32"
        return values["task"], values["trained_temperature"] or 0, *lesser, str(key)

    return {key: found[key] for key in sorted(found, key=order)}


def searches(runs: list[Run]) -> list[list[Run]]:
    """The runs and their parts that have a history, those together that differ only in their seed."""
    found: dict[configs.Config, list[Run]] = {}
    for run in (part for top in runs for part in (top, *top.parts)):
        if run.history:
            found.setdefault(dataclasses.replace(run.config, **IGNORED, generations=1), []).append(run)
    return sorted(found.values(), key=lambda group: group[0].config.temperature)


def trainings(runs: list[Run]) -> list[list[Run]]:
    """The runs whose V and M differ only in their seed, together; of runs that share V and M, the first."""
    found: dict[tuple, list[Run]] = {}
    for run in runs:
        settings = configs.fields_of("environment", "data", "before", "round", "V", "M")
        key = run.config.task, *(getattr(run.config, name) for name in settings if name not in IGNORED)
        trained = tuple(sorted({line["model"] for line in run.metrics}))
        group = found.setdefault((trained, *key) if trained else (run.name,), [])
        if not any(run.metrics == other.metrics for other in group):
            group.append(run)
    return list(found.values())
