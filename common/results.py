"""results.json: what a row says, which rows are the same experiment, and how the file is read and written."""

import json
from pathlib import Path

from common.run_dir import write_text
from config import Config, UserError

ENVIRONMENTS = {("carracing", "v0"): "CarRacing-v0", ("carracing", "v3"): "CarRacing-v3", "doom": "DoomTakeCover-v0"}

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
KEY = (*EXPERIMENT, "seed", "episodes")  # what tells the rows of a file apart


def trained_temperature(run: Config) -> float | None:
    """The temperature of the dream in which a run's agent is evolved; None if it is evolved in the game."""
    return run.temperature if run.env == "dream" else None


def identity(run: Config, **played) -> dict:
    """What a row says of its experiment: the run that evolved the agent, and the test's own settings.

    Args:
        run: the run's configuration.
        played: fields of Config in which the test differs from the run; by default the agent plays the game
            itself, in float32.
    """
    row = {name: getattr(run, name) for name in ("task", "preset", "pixels", "features", "untrained", "seed")}
    tau = trained_temperature(run)
    row |= {"env": "real", "dtype": "float32", "view": run.view, "temperature": run.temperature}
    row |= {name: value for name, value in played.items() if name in row}
    if run.task == "carracing":
        row["temperature"] = None
    else:
        row["view"] = None
        if row["env"] == "real":
            row["temperature"] = tau  # the game has none, its agent may
    return row | {"trained_temperature": tau}


def environment(task: str, view: str | None) -> str:
    """The environment's id, as papers and the hub call it."""
    return ENVIRONMENTS["doom" if task == "doom" else (task, view)]


def where(row: dict) -> str:
    """What a row was played in, and by which of Doom's agents, in words."""
    if row["task"] == "carracing":
        text = f"CarRacing, view {row['view']}"
    else:
        tau = row["trained_temperature"]
        trained = ", trained in the game" if tau is None else f", trained at τ {tau:g}"
        text = f"ViZDoom{trained}"
        if row["env"] == "dream":
            text = f"dream, τ {row['temperature']:g}" + trained * (row["temperature"] != tau)
    text += f", {row['pixels']} pixels" if row["pixels"] != "paper" else ""
    return text + (f", {row['dtype']}" if row["dtype"] != "float32" else "")


def read(path: Path) -> list[dict]:
    """A file's rows; [] if there is none. UserError if it is broken."""
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text())["results"]
        for row in rows:
            for name in KEY:
                row[name]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a results file: {error!r}; move it away") from None
    return rows


def same(one: dict, other: dict) -> bool:
    """Whether two rows are of the same test, so that the newer takes the older's place."""
    return all(one[name] == other[name] for name in KEY)


def add(path: Path, row: dict) -> None:
    """Adds a row to a file, in the place of an older one of the same test."""
    rows = [old for old in read(path) if not same(old, row)]
    write_text(path, json.dumps({"results": [*rows, row]}, indent=1) + "\n")
