"""Packs a run's weights, results and logs into a folder small enough to share.

    python -m tools.pack --run runs/car --out pretrained/carracing

The folder is a run without its data: evaluate.py, tools.report, tools.convert and --from take it like one. It holds the
weights of V, M and C, the frames where dreams start, configuration, history, results, learning curves, the commands
with their time, pictures and videos, a report, and README.md, the model card, which includes DIR/notes.md. It is marked
read-only (packed.json): evaluate.py only prints there, unless --save is given. An older one is replaced.
"""

import shutil
from contextlib import ExitStack
from pathlib import Path

import config as configs
from common import command_line, lock, packed, provenance, run_dir, storage
from controller.agent_file import read_best
from controller.policy import Controller
from tools.reporting.card import card
from tools.reporting.pages import write_report
from tools.reporting.runs import read_run

PARTS = (
    "config.json",
    "notes.md",
    "vae.weights.h5",
    "rnn.weights.h5",
    "initial_z.npz",
    "dream_starts.npz",
    "controller/best.json",
    "controller/history.jsonl",
    "results.json",
    "metrics.jsonl",
    "commands/*.json",
    "pictures/*.png",
    "videos/*-best.mp4",
    "videos/*-median.mp4",
    "videos/*-worst.mp4",
    "temperature-*/config.json",
    "temperature-*/controller/best.json",
    "temperature-*/controller/history.jsonl",
    "temperature-*/results.json",
    "temperature-*/commands/*.json",
)
# What may stand in a packed run: what is packed, and what evaluate.py and the tools add.
OWN = (
    *PARTS,
    "README.md",
    "packed.json",
    lock.NAME,
    f"temperature-*/{lock.NAME}",
    "temperature-*/packed.json",
    "report/*",
    "videos/*.mp4",
    "controller/checkpoint.npz",
    *(f"temperature-*/{name}" for name in run_dir.MODELS),
    "temperature-*/videos/*.mp4",
    "temperature-*/pictures/*.png",
)
CHECKPOINT = "controller/checkpoint.npz"
HISTORY = "controller/history.jsonl"
DATA = ("record", "series", "series.npz", "vae.checkpoint.npz", "rnn.checkpoint.npz")  # what a packed run has not


def pack(run: Path, out: Path, checkpoint: bool) -> float:
    """Makes `out` of `run`; its size in MB. UserError if a command is at work in `out`."""
    with ExitStack() as locks:
        for folder in (out, *out.glob("temperature-*")):
            if folder.is_dir() and not out.is_symlink():
                locks.enter_context(lock.hold(folder))
        return replace(run, out, checkpoint)


def replace(run: Path, out: Path, checkpoint: bool) -> float:
    """As `pack`, of an `out` that is locked or new."""
    run_dir.load(run)
    run_dir.need_models(run)
    for part in (run, *(path.parent.parent for path in run.glob("temperature-*/controller/best.json"))):
        run_dir.same_models(run, part)
        read_best(part / "controller", Controller.of(run_dir.load(part)).num_params)
    aside = out.with_name(f".{out.name}.old")
    if aside.exists() and not out.exists():  # a time before was interrupted
        aside.rename(out)
    if out.is_symlink():
        raise configs.UserError(f"--out {out} is a link; give the folder that it leads to")
    if out.exists():
        run_dir.load(out)
        require_own(out)
        if out.resolve() == run.resolve() or any((out / name).exists() for name in DATA):
            raise configs.UserError(f"--out {out} is a run with its data, which would be lost; choose another folder")
        ours, theirs = storage.read_lines(run / HISTORY), storage.read_lines(out / HISTORY)
        if (out / CHECKPOINT).exists() and theirs != ours[: len(theirs)]:
            raise configs.UserError(
                f"--out {out} holds an evolution that is not {run}'s and can go on; choose another folder, or delete "
                f"{out / CHECKPOINT}"
            )
    tmp = out.with_name(f".{out.name}.new")
    shutil.rmtree(tmp, ignore_errors=True)
    for pattern in (*PARTS, CHECKPOINT) if checkpoint else PARTS:
        for path in run.glob(pattern):
            if path.name.startswith("."):
                continue  # a file that is being written
            if not path.resolve().is_relative_to(run.resolve()):
                raise configs.UserError(f"{path} is a link out of the run and is not packed; replace it by a copy")
            storage.copy(path, tmp / path.relative_to(run))
    for part in tmp.glob("temperature-*"):
        for name in (name for name in run_dir.MODELS if (tmp / name).exists()):
            (part / name).symlink_to(Path("..") / name)
    for folder in (tmp, *tmp.glob("temperature-*")):
        packed.mark(folder, provenance.commit())
    small = read_run(tmp, out.name)
    write_report([small], tmp / "report")
    storage.write_text(tmp / "README.md", card(small, tmp))
    for path in (tmp, *tmp.rglob("*")):
        if not path.is_symlink():
            storage.flush_to_disk(path)
    if out.exists():
        shutil.rmtree(aside, ignore_errors=True)
        out.rename(aside)
    tmp.rename(out)
    storage.flush_to_disk(out.parent)  # the old one is there until the new one outlasts a power cut
    shutil.rmtree(aside, ignore_errors=True)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def require_own(out: Path) -> None:
    """UserError naming what stands in a packed run and is neither packed there nor made there by a stage: replacing the
    folder would delete it."""
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        if not any(name.match(pattern) and len(name.parts) == pattern.count("/") + 1 for pattern in OWN) and (
            path.is_symlink() or not path.is_dir() or not any(path.iterdir())
        ):
            raise configs.UserError(f"--out {out} holds {name}, which is not of a packed run; move it away")


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--checkpoint", action="store_true", help="with the evolution's checkpoint (13 MB), so that it can go on"
    )
    args = parser.parse_args()
    size = pack(args.run, args.out, args.checkpoint)
    print(f"{args.out}: {size:.1f} MB")


if __name__ == "__main__":
    command_line.command(main)
