"""Packs a run's weights, results and logs into a folder small enough to share.

    python -m tools.pack --run runs/car --out pretrained/carracing

The folder is a run without its data: evaluate.py, tools.report, tools.convert and --from take it like one. It holds the
weights of V, M and C, the frames where dreams start, configuration, history, results, learning curves, the commands
with their time, pictures and videos, a report, and README.md, the model card, which includes DIR/notes.md; and in
origins/ the records of the runs that it began from, so of every round. It is marked read-only (packed.json):
evaluate.py only prints there, unless --save is given. An older one is replaced, if its folder holds nothing else.
"""

from contextlib import ExitStack
from pathlib import Path

from controller.policy import Controller
from tools import packs
from tools.reporting import origins
from tools.reporting.card import card
from tools.reporting.pages import write_report
from tools.reporting.runs import read_run
from world_models import command_line
from world_models import config as configs
from world_models.runs import lock, packed, provenance, run_dir, storage
from world_models.runs.agent_file import read_best

PARTS = (
    "config.json",
    "notes.md",
    "vae.weights.h5",
    "rnn.weights.h5",
    "initial_z.npz",
    "controller/best.json",
    "controller/history.jsonl",
    "results.json",
    "metrics.jsonl",
    "commands/*.json",
    "pictures/*.png",
    "videos/*-best.mp4",
    "videos/*-median.mp4",
    "videos/*-worst.mp4",
    f"{run_dir.AGENTS}/*/config.json",
    f"{run_dir.AGENTS}/*/controller/best.json",
    f"{run_dir.AGENTS}/*/controller/history.jsonl",
    f"{run_dir.AGENTS}/*/results.json",
    f"{run_dir.AGENTS}/*/commands/*.json",
)
CHECKPOINT = "controller/checkpoint.npz"
HISTORY = "controller/history.jsonl"
DATA = ("record", "series", "series.npz", "vae.checkpoint.npz", "rnn.checkpoint.npz")  # what a packed run has not


def pack(run: Path, out: Path, checkpoint: bool) -> float:
    """Makes `out` of `run`; its size in MB. UserError if a command is at work in `out`, or it holds what a pack has
    not made."""
    out = out if out.name.strip(".") else out.resolve()  # of ".": its name is needed
    if out.is_symlink():
        raise configs.UserError(f"--out {out} is a link; give the folder that it leads to")
    ends = run.resolve(), out.resolve()
    if ends[0].is_relative_to(ends[1]) or ends[1].is_relative_to(ends[0]):
        raise configs.UserError(f"--out {out} and --run {run}: one is or holds the other; choose another folder")
    packs.restore(out)
    if packs.held(out):
        run_dir.load(out)  # before a lock is put into a folder that is no run
    with ExitStack() as locks:
        for folder in (out, *out.glob(f"{run_dir.AGENTS}/*")):
            if folder == out or (folder.is_dir() and not folder.is_symlink()):
                locks.enter_context(lock.hold(folder))
        return replace(run, out, checkpoint)


def replace(run: Path, out: Path, checkpoint: bool) -> float:
    """As `pack`, of an `out` that is locked; a new one is so from here on, too."""
    run_dir.load(run)
    run_dir.need_models(run)
    for part in (run, *(path.parent.parent for path in run.glob(f"{run_dir.AGENTS}/*/controller/best.json"))):
        run_dir.same_models(run, part)
        read_best(part / "controller", Controller.of(run_dir.load(part)).num_params)
    if packs.held(out):
        packs.require_own(out, run)
        if any((out / name).exists() for name in DATA):
            raise configs.UserError(f"--out {out} is a run with its data, which would be lost; choose another folder")
        ours, theirs = storage.read_lines(run / HISTORY), storage.read_lines(out / HISTORY)
        if (out / CHECKPOINT).exists() and theirs != ours[: len(theirs)]:
            raise configs.UserError(
                f"--out {out} holds an evolution that is not {run}'s and can go on; choose another folder, or delete "
                f"{out / CHECKPOINT}"
            )
    with packs.beside(out) as tmp:
        make(run, tmp, out.name, checkpoint)
        packs.take_place(tmp, out)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def make(run: Path, tmp: Path, name: str, checkpoint: bool) -> None:
    """Fills the new folder `tmp`, which is to be called `name`, and flushes it to the disk."""
    for pattern in (*PARTS, *([CHECKPOINT] * checkpoint)):
        for path in run.glob(pattern):
            if path.name.startswith("."):
                continue  # a file that is being written
            if not path.resolve().is_relative_to(run.resolve()):
                raise configs.UserError(f"{path} is a link out of the run and is not packed; replace it by a copy")
            origins.copy_shared(path, tmp / path.relative_to(run), run)
    origins.copy_records(run, tmp)
    for part in tmp.glob(f"{run_dir.AGENTS}/*"):
        for model in (model for model in run_dir.MODELS if (tmp / model).exists()):
            (part / model).symlink_to(Path("../..") / model)
    for folder in (tmp, *tmp.glob(f"{run_dir.AGENTS}/*")):
        packed.mark(folder, provenance.commit())
    small = read_run(tmp, name)
    write_report([small], tmp / "report")
    storage.write_text(tmp / "README.md", card(small, tmp))
    for path in (tmp, *tmp.rglob("*")):
        if not path.is_symlink():
            storage.flush_to_disk(path)


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
