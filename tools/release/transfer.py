"""The release's files into a run folder, and a run out as such files: what tools.convert does."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tools.release.json_format import write_list
from tools.release.parts import PARTS, json_name
from world_models import config as configs
from world_models import tasks
from world_models.config import Config, UserError
from world_models.runs import config_file, run_dir, storage
from world_models.training import quiet_tensorflow

# Settings to give as flags when an exported run is imported: JSON holds no configuration.
SETTINGS = (
    *("view", "pixels", "max_frames", "z_size", "rnn_units", "mixtures", "heads", "restart_weight"),
    *("features", "temperature", "dream_end"),
)


def vacant(paths: list[Path]) -> list[Path]:
    """Returns `paths`; UserError naming the first that is there already."""
    for path in paths:
        if path.exists():
            raise UserError(f"{path} is there already and is not overwritten; move it away, or choose another folder")
    return paths


def write_all(outputs: dict[Path, tuple[Callable, object]]) -> None:
    """Writes files, {path: (write, what)}; none appears before all are written."""
    with ExitStack() as stack:
        for path, (write, what) in outputs.items():
            write(what, stack.enter_context(storage.atomic_write(path)))


def resolve_config(run: Path, given: dict, names: list[str]) -> Config:
    """The configuration of the run that parts `names` are imported to; a new run has the release's pixels."""
    new = not (run / "config.json").exists()
    config = run_dir.resolve_config(run, {"pixels": "release"} | given if new else given)
    if "vae" in names and "pixels" not in given and config.pixels != "release":
        raise UserError(
            f"{run} was made with --pixels {config.pixels}, and the release's V is used to release: choose another "
            f"--run, or say --pixels {config.pixels} if this V is not the release's"
        )
    return config


def import_run(run: Path, files: dict[str, Path], given: dict) -> str:
    """Makes or completes a run folder from JSON files, by name of part; returns a line that says what was written."""
    if not files:
        raise UserError(f"nothing to import: give at least one of {', '.join(map(configs.flag, PARTS))}")
    config = resolve_config(run, given, list(files))
    places = vacant([run / PARTS[name].place for name in files])
    quiet_tensorflow()
    outputs = {
        place: (PARTS[name].write, PARTS[name].read(path, config))
        for place, (name, path) in zip(places, files.items(), strict=True)
    }
    if not (run / "config.json").exists():
        outputs[run / "config.json"] = (lambda config, path: path.write_text(config_file.text(config, {})), config)
    write_all(outputs)
    missing = [name for name in ("vae", "rnn", "controller") if not (run / PARTS[name].place).exists()]
    then = f"it lacks {', '.join(missing)}" if missing else f"play it with: python evaluate.py --run {run}"
    return f"{run}: wrote {', '.join(str(path.relative_to(run)) for path in outputs)}; {then}"


def export_run(run: Path, out: Path) -> str:
    """Writes what a run has of V, M, C and initial z as JSON; returns lines that say what, and how to import it."""
    config = run_dir.load(run)
    there = [name for name, part in PARTS.items() if (run / part.place).exists()]
    if not there:
        raise UserError(f"{run} has nothing to export: none of {', '.join(part.place for part in PARTS.values())}")
    places = vacant([out / json_name(name, config) for name in there])
    quiet_tensorflow()
    write_all({place: (write_list, PARTS[name].take(run, config)) for place, name in zip(places, there, strict=True)})
    left = [PARTS[name].place for name in PARTS if name not in there]
    usual = tasks.preset(config.task, "paper")
    flags = [f"--task {config.task}"]
    flags += [
        f"{configs.flag(name)} {getattr(config, name)}"
        for name in SETTINGS
        if getattr(config, name) != ("release" if name == "pixels" else getattr(usual, name))
    ]
    wrote = f"{out}: wrote {', '.join(place.name for place in places)}"
    if left:
        wrote += f"; left out, as {run} does not have it: {', '.join(left)}"
    return f"{wrote}\nimport with {' '.join(flags)}"
