"""results.json: what a row says, which rows are the same experiment, and how the file is read and written."""

import json
from collections.abc import Callable
from pathlib import Path

from world_models import tasks
from world_models.config import DREAM_ENDS, DREAM_STARTS, Config, UserError
from world_models.runs import config_file, integrity
from world_models.runs.integrity import is_count, is_number, is_text
from world_models.runs.storage import write_text

# What a test was of: rows that agree in these are the same experiment, repeated with other seeds.
EXPERIMENT = (
    "task",
    "preset",
    "env",
    "view",
    "pixels",
    "temperature",
    "trained_temperature",
    "dream_end",
    "dream_starts",
    "dream_frames",
    "features",
    "untrained",
    "dtype",
)
# The release's dreams; rows that were written before dreams could be others have these values without saying so.
RELEASED = {name: config_file.ADDED[name] for name in ("dream_end", "dream_starts", "dream_frames")}
KEY = (*EXPERIMENT, "seed", "episodes")  # the key of a row in a file


def optional(fits: Callable) -> Callable:
    return lambda value: value is None or fits(value)


def list_of(fits: Callable) -> Callable:
    return lambda value: isinstance(value, list) and all(map(fits, value))


# What a row's values are. One that was measured has more than what it was of.
KINDS = {
    **dict.fromkeys(("task", "preset", "pixels", "features", "untrained", "dtype"), is_text),
    "env": lambda value: value in ("real", "dream"),
    **dict.fromkeys(("seed", "episodes", "dream_frames"), is_count),
    **dict.fromkeys(("temperature", "trained_temperature"), optional(is_number)),
    "view": optional(is_text),
    "dream_end": lambda value: value in DREAM_ENDS,
    "dream_starts": lambda value: value in DREAM_STARTS,
}
MEASURED = dict.fromkeys(("mean", "std"), is_number)
MORE = {
    **dict.fromkeys(("min", "max", "median", "standard_error", "interquartile_mean"), is_number),
    **dict.fromkeys(("mean_steps", "seconds", "mark", "solved"), is_number),
    **dict.fromkeys(("command", "hardware", "vae", "rnn", "agent"), is_text),
    "ranks": is_count,
    "generation": optional(is_count),
    "returns": list_of(is_number),
    "seeds": list_of(is_count),
}


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
    row = {
        name: getattr(run, name) for name in ("task", "preset", "pixels", *RELEASED, "features", "untrained", "seed")
    }
    tau = trained_temperature(run)
    row |= {"env": "real", "dtype": "float32", "view": run.view, "temperature": run.temperature}
    row |= {name: value for name, value in played.items() if name in row}
    task = tasks.get(run.task)
    if row["env"] == "real":
        row["temperature"] = tau  # the real environment has none, its agent may
        row |= RELEASED if tau is None else {}  # no dream is in it
    if not task.views:
        row["view"] = None
    return row | {"trained_temperature": tau}


def dreams_as_released(row: dict) -> bool:
    """Whether a row's dreams begin and end as the release's."""
    return all(row[name] == value for name, value in RELEASED.items())


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
    text += ", ends drawn" if row["dream_end"] == "draw" else ""
    text += ", from any frame" if row["dream_starts"] == "any" else ""
    text += f", of {row['dream_frames']} steps at most" if row["dream_frames"] else ""
    text += f", {row['pixels']} pixels" if row["pixels"] != "paper" else ""
    return text + (f", {row['dtype']}" if row["dtype"] != "float32" else "")


def read(path: Path) -> list[dict]:
    """A file's rows; [] if there is none. UserError if it is broken, not as it was written, or of another task than
    config.json beside it."""
    if not path.exists():
        return []
    try:
        rows = [RELEASED | row for row in integrity.read_json(path)["results"]]
        for row in rows:
            if wrong := integrity.mistyped(row, KINDS | (MEASURED if "mean" in row else {}), MORE):
                raise ValueError(f"of a row {wrong}")
            if row["env"] == "dream" and row["temperature"] is None:
                raise ValueError("of a row its temperature is None, in a dream")
            if len({len(row[name]) for name in ("returns", "seeds") if name in row}) > 1:
                raise ValueError("a row has other numbers of returns and of seeds")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a results file: {error!r}; move it away") from None
    config = path.with_name("config.json")
    if rows and config.exists():
        task = config_file.parse(config)[0].task
        require_same(path, rows, task=task)
        views = tasks.get(task).views
        if odd := [row["view"] for row in rows if views and row["view"] not in views]:
            raise UserError(f"{path} is not a results file: of a row its view is {odd[0]!r}, not of {', '.join(views)}")
    return rows


def require_same(path: Path, rows: list[dict], **expected) -> None:
    """UserError naming the first row of a file that says something else than the run's configuration."""
    for row in rows:
        for name, own in expected.items():
            if row.get(name, own) != own:
                raise UserError(f"{path} is another run's: {name} {row[name]}, config.json says {own}; move it away")


def require_own(path: Path, run: Config, models: dict[str, str]) -> None:
    """UserError if a file is broken, or has rows of another run, or of another V or M than `models` (the digests of
    `integrity.digests`)."""
    rows = read(path)
    names = ("task", "seed", "preset", "features", "untrained", "pixels")
    require_same(path, rows, **{name: getattr(run, name) for name in names})
    for name, digest in models.items():
        if any(row.get(name, digest) != digest for row in rows):
            letter, file = integrity.MODELS[name]
            raise UserError(f"{path} has tests of another {letter} than {path.with_name(file)}; move it away")


def same(one: dict, other: dict) -> bool:
    """Whether two rows are of the same test, so that the newer takes the older's place."""
    return all(one[name] == other[name] for name in KEY)


def add(path: Path, row: dict) -> None:
    """Adds a row to a file, in the place of an older one of the same test."""
    rows = [old for old in read(path) if not same(old, row)]
    write_text(path, json.dumps(integrity.sealed({"results": [*rows, row]}), indent=1) + "\n")
