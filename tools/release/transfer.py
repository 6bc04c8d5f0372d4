"""The release's files into a run folder, and a run out as such files: what tools.convert does."""

from contextlib import ExitStack
from pathlib import Path

from tools.release.json_format import write_list
from tools.release.parts import PARTS, json_name
from world_models import config as configs
from world_models import tasks
from world_models.config import Config, UserError
from world_models.runs import begin, files
from world_models.runs.run import Run
from world_models.training import quiet_tensorflow

# Settings to give as flags when an exported run is imported: JSON holds no settings.
SETTINGS = (
    *("view", "pixels", "max_frames", "z_size", "rnn_units", "mixtures", "heads", "restart_weight"),
    *("features", "temperature", "dream_dropout"),
)


def vacant(paths: list[Path]) -> None:
    """UserError that names the first path that exists."""
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists and is not overwritten; move it away, or choose another folder")


def resolve_config(run: Path, given: dict, names: list[str]) -> Config:
    """The settings of the run that parts `names` are imported to; a new run has the release's pixels."""
    config = Run(run).config if (run / "config.json").exists() else begin.resolve(run, given, None, None)
    if "vae" in names and "pixels" not in given and config.pixels != "release":
        raise UserError(
            f"{run} was made with --pixels {config.pixels}, and the release's V expects --pixels release: choose "
            f"another --run, or give --pixels {config.pixels} if this V is not the release's"
        )
    return config


def import_run(path: Path, parts: dict[str, Path], given: dict) -> str:
    """Makes or completes a run folder from JSON files, by name of part; returns a line that says what was written.
    Nothing is written unless all parts fit."""
    if not parts:
        raise UserError(f"nothing to import: give at least one of {', '.join(map(configs.flag, PARTS))}")
    new = not (path / "config.json").exists()
    config = resolve_config(path, {"pixels": "release"} | given if new else given, list(parts))
    vacant([path / PARTS[name].place for name in parts])
    quiet_tensorflow()
    found = {name: PARTS[name].read(parts[name], config) for name in PARTS if name in parts}
    with Run.open(path, {"pixels": "release"} | given if new else given) as run:
        for name, content in found.items():
            PARTS[name].write(content, run)
        missing = [name for name in ("vae", "rnn", "controller") if not (run / PARTS[name].place).exists()]
    then = f"it lacks {', '.join(missing)}" if missing else f"play it with: python evaluate.py --run {path}"
    return f"{path}: wrote {', '.join(PARTS[name].place for name in found)}; {then}"


def export_run(path: Path, out: Path) -> str:
    """Writes what a run has of V, M, C and initial z as JSON; returns lines that say what, and how to import it."""
    run = Run(path)
    names = [name for name, part in PARTS.items() if (run / part.place).exists()]
    if not names:
        raise UserError(f"{path} has nothing to export: none of {', '.join(part.place for part in PARTS.values())}")
    places = [out / json_name(name, run.config) for name in names]
    vacant(places)
    quiet_tensorflow()
    lists = [PARTS[name].take(run) for name in names]
    with ExitStack() as stack:  # no file appears before all are written
        for place, content in zip(places, lists, strict=True):
            write_list(content, stack.enter_context(files.atomic_write(place)))
    left = [PARTS[name].place for name in PARTS if name not in names]
    usual = tasks.preset(run.config.task, "paper")
    flags = [f"--task {run.config.task}"]
    flags += [
        f"{configs.flag(name)} {getattr(run.config, name)}"
        for name in SETTINGS
        if getattr(run.config, name) != ("release" if name == "pixels" else getattr(usual, name))
    ]
    wrote = f"{out}: wrote {', '.join(place.name for place in places)}"
    if left:
        wrote += f"; {path} does not have {', '.join(left)}"
    return f"{wrote}\nimport with {' '.join(flags)}"
