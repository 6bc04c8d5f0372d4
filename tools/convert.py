"""The original release's JSON files: into a run folder, and a run's V, M and C out as such files.

    python -m tools.convert import --task carracing --vae vae.json --rnn rnn.json --initial-z initial_z.json \\
        --controller carracing.cma.16.64.best.json --run runs/released
    python -m tools.convert export --run runs/car --out weights

Each file is a list, read in this order; a weight w stands in it as the whole number round(10000 w):

    vae.json        kernel and bias of enc_conv1-4, enc_fc_mu, enc_fc_log_var, dec_fc, dec_deconv1-4: 22 arrays
    rnn.json        CarRacing: output_w, output_b, LSTM kernel, LSTM bias; Doom: the LSTM's before the output's
    initial_z.json  mu, logvar: each (N, Z), also times 10000; the first frames that dreams start from
    *.best.json     parameters (plain numbers, of 4 decimals; CarRacing's biases first), score (a mean return)

The LSTM's kernel is (input + units, 4 units): rows of the input (z, action, in Doom restart) before h, columns
of the gates i, j (candidate), f, o. Nothing is written unless all that was given fits; nothing is overwritten.
"""

import argparse
import json
from contextlib import ExitStack
from pathlib import Path

from world_models import command_line, tasks
from world_models.config import UserError, flag
from world_models.runs import begin, files
from world_models.runs.run import Run
from world_models.training import quiet_tensorflow

quiet_tensorflow()

from tools.release import PARTS, json_name  # noqa: E402

# Settings to give as flags when an exported run is imported: JSON holds no settings.
SETTINGS = (
    *("view", "pixels", "max_frames", "z_size", "rnn_units", "mixtures", "heads", "restart_weight"),
    *("features", "temperature", "dream_dropout"),
)

IMPORT = """Makes a run folder of the release's files, one or more, or adds to a run that lacks them.

A new run's configuration is the task's paper preset with --pixels release; the flags below change it, and stand
as they are for later stages, if C is to be trained on, say. The paper's Doom preset has --temperature 1.15; the
release's code evolved its agent at 1.25."""

EXPORT = """Writes vae.json, rnn.json, initial_z.json and C's .best.json, whichever parts the run has."""


def require_absent(paths: list[Path]) -> None:
    """UserError that names the first path that exists."""
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists and is not overwritten; move it away, or choose another folder")


def import_run(path: Path, parts: dict[str, Path], given: dict) -> str:
    """Makes or completes a run folder from JSON files, by name of part; returns a line that says what was written.
    Nothing is written unless all parts fit."""
    if not parts:
        raise UserError(f"nothing to import: give at least one of {', '.join(map(flag, PARTS))}")
    if (path / "config.json").exists():
        config = Run(path).config
    else:
        given = {"pixels": "release"} | given
        config = begin.resolve(path, given, None, None)
    if "vae" in parts and "pixels" not in given and config.pixels != "release":
        raise UserError(
            f"{path} was made with --pixels {config.pixels}, and the release's V expects --pixels release: choose "
            f"another --run, or give --pixels {config.pixels} if this V is not the release's"
        )
    require_absent([path / PARTS[name].place for name in parts])
    found = {name: part.read(parts[name], config) for name, part in PARTS.items() if name in parts}
    with begin.open_run(path, given) as run:
        for name, content in found.items():
            PARTS[name].write(content, run)
        missing = [name for name in ("vae", "rnn", "controller") if not (run / PARTS[name].place).exists()]
    then = f"it lacks {', '.join(missing)}" if missing else f"play it with: python evaluate.py --run {path}"
    return f"{path}: wrote {', '.join(PARTS[name].place for name in found)}; {then}"


def export_run(path: Path, out: Path) -> str:
    """Writes what a run has of V, M, C and initial z as JSON; returns lines that say what, and how to import it."""
    run = Run(path)
    parts = {name: part for name, part in PARTS.items() if (run / part.place).exists()}
    if not parts:
        raise UserError(f"{path} has nothing to export: none of {', '.join(part.place for part in PARTS.values())}")
    places = [out / json_name(name, run.config) for name in parts]
    require_absent(places)
    lists = [part.take(run) for part in parts.values()]
    with ExitStack() as stack:  # no file appears before all are written
        for place, content in zip(places, lists, strict=True):
            arrays = ",\n".join(json.dumps(values, separators=(",", ":")) for values in content)
            stack.enter_context(files.atomic_write(place)).write_text(f"[\n{arrays}\n]\n", encoding="utf-8")
    usual = tasks.replace(tasks.preset(run.config.task, "paper"), pixels="release")
    changed = [name for name in SETTINGS if getattr(run.config, name) != getattr(usual, name)]
    flags = [f"--task {run.config.task}", *(f"{flag(name)} {getattr(run.config, name)}" for name in changed)]
    wrote = f"{out}: wrote {', '.join(place.name for place in places)}"
    if left := [part.place for name, part in PARTS.items() if name not in parts]:
        wrote += f"; {path} does not have {', '.join(left)}"
    return f"{wrote}\nimport with {' '.join(flags)}"


def parse_arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = command_line.Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{import,export}")
    given = argparse.ArgumentParser(add_help=False)
    group = given.add_argument_group("files (their format: python -m tools.convert --help)")
    for name, part in PARTS.items():
        group.add_argument(flag(name), type=Path, metavar="FILE", help=part.text)
    usage = "python -m tools.convert import --run DIR --task TASK [--vae FILE] [--rnn FILE] [...]"
    parents = {"parents": [given, command_line.parser("")], "conflict_handler": "resolve"}  # both have -h
    text = "JSON files into a run folder"
    commands.add_parser("import", usage=usage, help=text, description=IMPORT, formatter_class=raw, **parents)
    giver = commands.add_parser("export", help="a run's V, M and C out as JSON files", description=EXPORT)
    giver.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder")
    giver.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to; made if it is new")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.command == "export":
        command_line.print_result(export_run(args.run, args.out))
        return
    if args.base is not None:
        raise UserError("--from: an import takes its configuration from flags, its weights from files; leave it out")
    parts = {name: getattr(args, name) for name in PARTS if getattr(args, name) is not None}
    command_line.print_result(import_run(args.run, parts, command_line.overrides(args)))


if __name__ == "__main__":
    command_line.command(main)
