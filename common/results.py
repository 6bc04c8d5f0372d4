"""results.json: what a row says, which rows are the same experiment, and how the file is read and written."""

import json
from pathlib import Path

import tasks
from common import config_file, integrity
from common.storage import write_text
from config import Config, UserError

# What a test was of: rows that agree in these are the same experiment, repeated with other seeds.
EXPERIMENT = (
    "task",
    "preset",
    "env",
    "view",
    "pixels",
    "temperature",
    "trained_temperature",
    "features",
    "untrained",
    "dtype",
)
KEY = (*EXPERIMENT, "seed", "episodes")  # the key of a row in a file


def trained_temperature(run: Config) -> float | None:
    """The temperature of the dream in which a run's agent is evolved; None if it is evolved in the real environment."""
    return run.temperature if run.env == "dream" else None


def identity(run: Config, **played) -> dict:
    """What a row says of its experiment: the run that evolved the agent, and the test's own settings.

    Args:
        run: the run's configuration.
        played: fields of Config in which the test differs from the run; by default the agent plays in the
            real environment, in float32.
    """
    row = {name: getattr(run, name) for name in ("task", "preset", "pixels", "features", "untrained", "seed")}
    tau = trained_temperature(run)
    row |= {"env": "real", "dtype": "float32", "view": run.view, "temperature": run.temperature}
    row |= {name: value for name, value in played.items() if name in row}
    task = tasks.get(run.task)
    if row["env"] == "real":
        row["temperature"] = tau  # the real environment has none, its agent may
    if not task.views:
        row["view"] = None
    return row | {"trained_temperature": tau}


def where(row: dict) -> str:
    """What a row was played in, and by an agent of which dream, in words."""
    task = tasks.get(row["task"])
    text = task.label + (f", view {row['view']}" if task.views else "")
    tau, trained = row["trained_temperature"], ""
    if tau is not None:
        trained = f", trained at τ {tau:g}"
    elif task.evolves_in_dreams:
        trained = ", trained in the game"
    if row["env"] == "dream":
        text = f"dream, τ {row['temperature']:g}" + trained * (row["temperature"] != tau)
    else:
        text += trained
    text += f", {row['pixels']} pixels" if row["pixels"] != "paper" else ""
    return text + (f", {row['dtype']}" if row["dtype"] != "float32" else "")


def read(path: Path) -> list[dict]:
    """A file's rows; [] if there is none. UserError if it is broken, not as it was written, or of another task than
    config.json beside it."""
    if not path.exists():
        return []
    try:
        rows = integrity.read_json(path)["results"]
        for row in rows:
            for name in KEY:
                row[name]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not a results file: {error!r}; move it away") from None
    config = path.with_name("config.json")
    if rows and config.exists():
        require_same(path, rows, task=config_file.parse(config)[0].task)
    return rows


def require_same(path: Path, rows: list[dict], **expected) -> None:
    """UserError naming the first row of a file that says something else than the run's configuration."""
    for row in rows:
        for name, own in expected.items():
            if row.get(name, own) != own:
                raise UserError(f"{path} is another run's: {name} {row[name]}, config.json says {own}; move it away")


def require_own(path: Path, run: Config) -> None:
    """UserError if a file is broken, or has rows of another run."""
    require_same(path, read(path), task=run.task, seed=run.seed)


def same(one: dict, other: dict) -> bool:
    """Whether two rows are of the same test, so that the newer takes the older's place."""
    return all(one[name] == other[name] for name in KEY)


def add(path: Path, row: dict) -> None:
    """Adds a row to a file, in the place of an older one of the same test."""
    rows = [old for old in read(path) if not same(old, row)]
    write_text(path, json.dumps(integrity.sealed({"results": [*rows, row]}), indent=1) + "\n")
