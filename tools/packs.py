"""Folders of packs: whether one holds nothing else and may be replaced, and how a new one takes its place."""

import filecmp
import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tools.reporting.origins import COMMAND, FOLDER, SEARCH
from world_models import tasks
from world_models.config import Config, UserError
from world_models.runs import leftovers, lock, run_dir, storage


def held(folder: Path) -> bool:
    """Whether there is more in a folder than its lock; False if it is missing."""
    return folder.exists() and any(path.name != lock.NAME for path in folder.iterdir())


def own_names(config: Config) -> re.Pattern:
    """The files of a packed run: what is packed, and what evaluate.py and the tools add, by their real names."""
    task = tasks.get(config.task)
    name, number = re.escape(task.file_name), r"[\d.e+-]+"
    end = rf"{name}(-({'|'.join(map(re.escape, task.views))}))?-(best|median|worst)"
    pictures = rf"(reconstructions|dream-{number}|{end})\.png"
    models = "|".join(map(re.escape, run_dir.MODELS))
    anywhere = (
        rf"config\.json|results\.json|metrics\.jsonl|packed\.json|{re.escape(lock.NAME)}|{models}"
        rf"|controller/(best\.json|history\.jsonl|checkpoint\.npz)|commands/{COMMAND.pattern}"
        rf"|pictures/{pictures}|videos/({end}|{name}-dream-{number})\.mp4"
    )
    report = rf"report\.md|model_card\.md|(losses|(training|histogram)-{name})\.png|{pictures}"
    record = rf"(config|results)\.json|metrics\.jsonl|{'|'.join(map(re.escape, SEARCH))}|commands/{COMMAND.pattern}"
    earlier = rf"{FOLDER}/\d+-[\w.-]+/({record})"
    return re.compile(rf"({run_dir.AGENTS}/[\w.,+-]+/)?({anywhere})|{earlier}|notes\.md|README\.md|report/({report})")


def require_own(folder: Path, run: Path | None = None) -> None:
    """UserError naming what stands in a packed run and would be lost with it: it is neither one of a pack's files, nor
    in `run` as well, byte for byte."""
    names = own_names(run_dir.load(folder))
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() and not path.is_symlink():
            lost = not any(path.iterdir())
        else:
            lost = not names.fullmatch(str(name)) and not (run is not None and is_copy(path, run / name))
        if lost:
            raise UserError(f"{folder} holds {name}, which is not of a packed run; move it away")


def is_copy(path: Path, of: Path) -> bool:
    """Whether two paths are files of the same content, and the first is no link."""
    both = path.is_file() and not path.is_symlink() and of.is_file()
    return both and filecmp.cmp(path, of, shallow=False)


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """A new folder that is to become `out`; removed if it does not. So are those of packs that were killed."""
    for path in out.parent.glob(f".[0-9]*.tmp.{glob.escape(out.name)}"):
        if path.is_dir() and leftovers.abandoned(path):
            shutil.rmtree(path, ignore_errors=True)
    tmp = storage.tmp_path(out)
    tmp.mkdir()  # an error if something is there: it would not be ours
    try:
        yield tmp
    finally:
        if tmp.exists():
            shutil.rmtree(tmp, ignore_errors=True)


def aside(out: Path) -> Path:
    """Where an older pack is while the new one takes its place."""
    return out.with_name(f".{out.name}.old")


def take_place(tmp: Path, out: Path) -> None:
    """Renames `tmp` to `out`, and deletes what was there, which is there until the new one outlasts a power cut."""
    old = aside(out)
    out.rename(old)
    try:
        tmp.rename(out)
    except OSError:
        old.rename(out)
        raise
    storage.flush_to_disk(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore(out: Path) -> None:
    """What a pack that was killed in `take_place` had set aside: put back, or deleted if the new one is there.

    UserError if what has that name is no pack.
    """
    old = aside(out)
    if not os.path.lexists(old):
        return
    if old.is_symlink() or not old.is_dir():
        raise UserError(f"{old} is in the way and not of a packed run; move it away")
    if held(old):
        require_own(old)
    with lock.hold(old):  # held by a pack that is about to replace `out`
        if held(out) or not held(old):
            shutil.rmtree(old)
        else:
            with suppress(FileNotFoundError):
                out.rmdir()
            old.rename(out)
