"""Packs a run's weights, results and logs into a new folder that is small enough to share.

    python -m tools.pack --run runs/car --out pretrained/carracing

The folder is a run without its data: evaluate.py, tools.report, tools.convert, --from and --after take it like one. It
holds what docs/files.md calls packed: V, M and C, the frames where dreams start, settings, histories, results, learning
curves, pictures and films; the records of the rounds before, in before/; and the agents of agents/, with links to V and
M. README.md is its model card, which includes DIR/notes.md. A pack is read-only: evaluate.py only prints there, unless
--save is given.
"""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

from controller.policy import Controller
from tools.reporting.card import card
from tools.reporting.pages import figures
from tools.reporting.runs import read_run
from world_models import command_line
from world_models.config import UserError
from world_models.runs import files
from world_models.runs.agent import read_best
from world_models.runs.artifacts import AGENTS, ARTIFACTS, BEFORE, RECORDS, M, V
from world_models.runs.manifest import Manifest, sha256
from world_models.runs.run import Run

SHARED = (V, M, "initial_z.npz")  # what the agents of agents/ share with the run
OUTSIDE = re.compile(r"(?<![\w.])(~[^/]*|\.\.)?/([^/]*/)*(?=[^/])")
MADE_HERE = ("manifest.json", "README.md")


def pack(path: Path, out: Path, checkpoint: bool = False) -> float:
    """Makes the folder `out` of the run `path`; its size in MB. With `checkpoint` it has the state of the search too,
    from which it can go on. UserError if `out` exists or lies in the run; if V, M or C is missing or was modified; if a
    file is a link out of the run."""
    run = Run(path)
    if os.path.lexists(out):
        raise UserError(f"--out {out} exists; give a new folder, or delete it")
    if out.resolve().is_relative_to(path.resolve()):
        raise UserError(f"--out {out} lies in --run {path}; give a folder elsewhere")
    for agent in (run, *run.agents):
        read_best(agent, Controller.of(agent.config).num_params)
        for name in (V, M):
            if run.need(name) and agent.digest(name) != run.digest(name):
                raise UserError(
                    f"{agent / name} is not {run / name}, so {agent} is not an agent of this run; move it away"
                )
    if (notes := path / "notes.md").exists():
        files.read_text(notes)  # before it is copied, so that a message names the user's own file
    tmp = files.tmp_path(out)
    tmp.mkdir(parents=True)
    try:
        fill(run, tmp, checkpoint)
        for agent in run.agents:
            part = tmp / AGENTS / agent.path.name
            fill(agent, part, checkpoint, SHARED)
            for name in (name for name in SHARED if (tmp / name).exists()):
                (part / name).symlink_to(Path("../..") / name)
        describe(tmp, out.name)
        require_relative(tmp, path)
        tmp.rename(out)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    files.flush_to_disk(out.parent)
    return sum(one.stat().st_size for one in out.rglob("*") if one.is_file() and not one.is_symlink()) / 1e6


def fill(run: Run, to: Path, checkpoint: bool, shared: tuple[str, ...] = ()) -> None:
    """Copies a run's packed files, without those that it shares, and the records of its rounds, with manifests."""
    names = [one.name for one in ARTIFACTS.values() if one.packed and one.name not in (*MADE_HERE, *shared)]
    names = [name for name in names if not name.startswith((f"{BEFORE}/", f"{AGENTS}/"))]
    names += ["controller/checkpoint.npz"] * checkpoint
    copy_files(run, to, names, shared)
    for depth, earlier in enumerate(reversed(run.earlier), 1):
        copy_files(earlier, to.joinpath(*[BEFORE] * depth), [name for name in RECORDS if name not in MADE_HERE])


def copy_files(run: Run, to: Path, names: list[str], shared: tuple[str, ...] = ()) -> None:
    """Copies files, by their names or patterns, with their rows of the manifest."""
    manifest = Manifest(to)
    manifest.packed = True
    for path in (path for name in names for path in sorted(run.path.glob(name)) if not path.name.startswith(".")):
        if not path.resolve().is_relative_to(run.path.resolve()):
            raise UserError(f"{path} is a link out of the run and is not packed; replace it by a copy")
        name = str(path.relative_to(run.path))
        row = run.manifest.row_of(name, path)
        if name == "results.json":
            content = files.read_json(path)
            for result in content["results"]:
                result |= {"command": relative(result["command"])} if "command" in result else {}
            files.write_text(to / name, json.dumps(content, indent=1) + "\n")
        else:
            files.copy(path, to / name)
        if row is not None:
            manifest.rows[name] = row | {"sha256": sha256(to / name)}
    for name in (name for name in shared if name in run.manifest.rows):
        manifest.rows[name] = run.manifest.row_of(name, run / name)
    for row in manifest.rows.values():
        row.pop("replaced", None)
        if row.get("command"):
            row["command"] = relative(row["command"])
    manifest.save()


def relative(command: str) -> str:
    """A command without the folders of paths that lead out of where it was typed, since they name the user's machine.
    Such a path begins with /, ~ or .., perhaps behind --flag= or file://."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation that does not end
        words = command.split()
    return shlex.join(OUTSIDE.sub("", word) for word in words)


def describe(folder: Path, name: str) -> None:
    """Draws the figures of a pack, and writes its model card."""
    figures([read_run(folder, name)], folder / "pictures")
    for path in folder.glob("pictures/*.pdf"):
        path.unlink()
    files.write_text(folder / "README.md", card(read_run(folder, name), folder))


def require_relative(folder: Path, run: Path) -> None:
    """UserError if a text in a pack names the home directory, or where the run lies."""
    private = {str(Path.home()), str(run.resolve().parent)} - {"/"}
    for path in (path for ending in ("*.json", "*.jsonl", "*.md") for path in folder.rglob(ending)):
        if named := [one for one in private if f"{one}/" in files.read_text(path)]:
            raise UserError(f"{run / path.relative_to(folder)} names the folder {named[0]} of this machine; remove it")


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder")
    again = "the new folder; without it --run is a pack, whose card and figures are made again"
    parser.add_argument("--out", type=Path, metavar="DIR", help=again)
    state = "with the search's checkpoint (13 MB), so that it can go on"
    parser.add_argument("--checkpoint", action="store_true", help=state)
    args = parser.parse_args()
    if args.out is not None:
        command_line.print_result(f"{args.out}: {pack(args.run, args.out, args.checkpoint):.1f} MB")
    elif Run(args.run).manifest.packed:
        files.require_own_folders(args.run)
        describe(args.run, args.run.resolve().name)
        command_line.print_result(args.run / "README.md")
    else:
        raise UserError(f"--run {args.run} is not a pack; give the new folder with --out DIR")


if __name__ == "__main__":
    command_line.command(main)
