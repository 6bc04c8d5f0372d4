"""results.json: what a row says, which rows are the same experiment, and how the file is read and written."""

import json
from typing import Any

from world_models import tasks
from world_models.config import Config, UserError
from world_models.runs import files
from world_models.runs.arrays import reading
from world_models.runs.artifacts import ARTIFACTS, M, V
from world_models.runs.files import is_count, is_number, is_text, list_of, optional
from world_models.runs.run import Run

# What a test was of: rows that agree in these are the same experiment, repeated with other seeds.
EXPERIMENT = (
    *("task", "preset", "play_in", "view", "variant", "pixels", "temperature"),
    *("trained_temperature", "dream_frames", "dream_dropout", "features", "z", "untrained", "dtype"),
)
# How dreams are played, apart from their temperature, with the values of the release.
RELEASED = {"dream_frames": 0, "dream_dropout": 0.0}
NAME = "results.json"
SHORT = {V: "vae", M: "rnn"}  # the names of their digests in a row
DEFAULTS = RELEASED | {"z": "sampled", "variant": "plain"}  # of a row from before these settings
KEY = (*EXPERIMENT, "seed", "episodes")  # the key of a row in a file


# What a row's values are, and what else it may have.
KINDS = {
    **dict.fromkeys(("task", "preset", "variant", "pixels", "features", "untrained", "dtype", "z"), is_text),
    "play_in": lambda value: value in ("real", "dream"),
    **dict.fromkeys(("episodes", "dream_frames"), is_count),
    "seed": lambda value: type(value) is int and value >= 0,  # of any size
    **dict.fromkeys(("temperature", "trained_temperature"), optional(is_number)),
    "view": optional(is_text),
    **dict.fromkeys(("dream_dropout", "mean", "std"), is_number),
    "returns": list_of(is_number),
    "seeds": list_of(is_count),
}
MORE = {
    **dict.fromkeys(("min", "max", "median", "standard_error", "interquartile_mean"), is_number),
    **dict.fromkeys(("mean_steps", "seconds", "mark", "solved"), is_number),
    **dict.fromkeys(("command", "hardware", "vae", "rnn", "agent"), is_text),
    "ranks": is_count,
    "generation": optional(is_count),
}


def trained_temperature(run: Config) -> float | None:
    """The temperature of the dream in which a run's agent is evolved; None if it is evolved in the real environment."""
    return run.temperature if run.play_in == "dream" else None


def identity(run: Config, **played: Any) -> dict:
    """What a row says of its experiment: the settings of the run that evolved the agent, and those in which the test
    differs from them (`played`); by default the agent plays in the real environment, in float32."""
    names = ("task", "preset", "variant", "pixels", *RELEASED, "features", "z", "untrained", "seed")
    row = {name: getattr(run, name) for name in names}
    tau = trained_temperature(run)
    row |= {"play_in": "real", "dtype": "float32", "view": run.view, "temperature": run.temperature}
    row |= {name: value for name, value in played.items() if name in row}
    task = tasks.get(run.task)
    if row["play_in"] == "real":
        row["temperature"] = tau  # the real environment has none, its agent may
        row |= RELEASED if tau is None else {}  # no dream is in it
    if not task.views:
        row["view"] = None
    return row | {"trained_temperature": tau}


def is_headline(run: Config, row: dict) -> bool:
    """Whether a row is the test that counts for a run's agent: in the game as it is, in its own view, in float32."""
    plain = row["play_in"] == "real" and row["dtype"] == "float32" and row["variant"] == "plain"
    return plain and row["view"] in (None, run.view)


def where(row: dict) -> str:
    """What a row was played in, and by an agent of which dream, in words."""
    task = tasks.get(row["task"])
    text = task.label + (f", view {row['view']}" if task.views else "")
    text += f", {row['variant']}" if row["variant"] != "plain" else ""
    tau, trained = row["trained_temperature"], ""
    if tau is not None:
        trained = f", trained at τ {tau:g}"
    elif task.evolves_in_dreams:
        trained = ", trained in the game"
    if row["play_in"] == "dream":
        text = f"dream, τ {row['temperature']:g}" + trained * (row["temperature"] != tau)
    else:
        text += trained
    text += f", at most {row['dream_frames']} steps" if row["dream_frames"] else ""
    text += f", dropout {row['dream_dropout']:g}" if row["dream_dropout"] else ""
    text += ", z = mean" if row["z"] == "mean" and row["play_in"] == "real" else ""
    text += f", {row['pixels']} pixels" if row["pixels"] != "paper" else ""
    return text + (f", {row['dtype']}" if row["dtype"] != "float32" else "")


def read(run: Run) -> list[dict]:
    """The rows of a run's results.json; [] if there is none. UserError if the file was modified, is not a results file,
    or is of another task than the run."""
    if not (run / NAME).exists():
        return []
    path = run.need(NAME)
    with reading(path, "is not a results file", "move it away"):
        rows = [DEFAULTS | row for row in files.read_json(path)["results"]]
        for row in rows:
            if wrong := files.describe_type_error(row, KINDS, MORE):
                raise ValueError(f"a row is wrong: {wrong}")
            if row["play_in"] == "dream" and row["temperature"] is None:
                raise ValueError("a row of a dream has no temperature")
            if not len(row["returns"]) == len(row["seeds"]) == row["episodes"]:
                raise ValueError("a row has different numbers of episodes, returns and seeds")
            if row["task"] != run.config.task:
                raise ValueError(f"a row is of task {row['task']}, and the run of {run.config.task}")
            views = tasks.get(row["task"]).views
            if views and row["view"] not in views:
                raise ValueError(f"a row has view {row['view']!r}, expected one of {', '.join(views)}")
    return rows


def require_own(run: Run) -> None:
    """UserError if a run's results are broken, or are tests of another V or M than the run holds now."""
    rows = read(run)
    for name in (V, M):
        if any(row.get(SHORT[name], digest) != digest for row in rows if (digest := run.digest(name))):
            raise UserError(f"{run / NAME} has tests of another {ARTIFACTS[name].what} than {run / name}; move it away")


def add(run: Run, row: dict) -> None:
    """Adds a row to a run's results, in the place of an older one of the same test."""
    rows = [old for old in read(run) if any(old[name] != row[name] for name in KEY)]
    run.write_text(NAME, json.dumps({"results": [*rows, row]}, indent=1) + "\n")
