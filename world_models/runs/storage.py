"""Files that are complete or not there at all, JSON lines, and room on the disk."""

import errno
import json
import os
import re
import resource
import shutil
import tempfile
from pathlib import Path

from world_models.runs import integrity
from world_models.runs.integrity import is_count, is_number, is_text
from world_models.config import UserError

UNFINISHED = re.compile(r"\.(\d+)\.tmp\..+")  # a name of `tmp_path`


def tmp_path(path: Path) -> Path:
    """Where this process makes what is to be at `path`. Its ending is the same: for some writers it decides the
    format."""
    return path.with_name(f".{os.getpid()}.tmp.{path.name}")


class atomic_write:
    """Context manager: a temporary path in `path`'s folder, renamed to `path` if the block raises nothing.

    A reader sees the old file or the new one, never a part of either; so does who looks after a power cut. An OSError
    that names no file, as of a full disk, gets `path` as its name.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.tmp = tmp_path(self.path)

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.tmp

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                flush_to_disk(self.tmp)
                os.replace(self.tmp, self.path)
                flush_to_disk(self.path.parent)
        except OSError as failed:
            error = failed
            raise
        finally:
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(self.path)
            if error is not None:
                self.tmp.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """fsync of a file, or of a folder: its names."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that have none, or none of folders
            raise
    finally:
        os.close(number)


def require_room(path: Path, size: int, times: int = 1) -> None:
    """UserError unless `times` files of `size` bytes can be made at `path`: asked when a stage starts, not after
    hours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):  # OSError, naming the folder, where it is read-only
        free = shutil.disk_usage(path.parent).free
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if times * size > free:
        raise UserError(f"{path}: {times * size / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free on its disk")
    if limit != resource.RLIM_INFINITY and size > limit:
        raise UserError(f"{path}: {size / 1e6:.0f} MB are needed, `ulimit -f` allows files of {limit / 1e6:.1f} MB")


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def copy(source: Path, to: Path) -> None:
    """Copies a file's content. On a full disk the error names `to`, where `shutil.copyfile` would name the source."""
    with open(source, "rb") as file, atomic_write(to) as tmp, open(tmp, "wb") as out:
        shutil.copyfileobj(file, out)


def append_line(path: Path, line: dict) -> None:
    """Appends a line to a file of JSON lines; an OSError names the file."""
    try:
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        error.filename = str(path)
        raise


# What every line of these files has; all of it are numbers, but the model's name and the evaluation.
LINES = {"metrics.jsonl": ("model", "step", "seconds"), "history.jsonl": ("generation", "seconds", "mean")}


def is_evaluation(value: object) -> bool:
    """Whether a value is what history.jsonl says of an evaluation: null, or numbers, among them a mean."""
    return value is None or (isinstance(value, dict) and "mean" in value and all(map(is_number, value.values())))


KINDS = {"model": is_text, "step": is_count, "generation": is_count, "evaluation": is_evaluation}


def read_lines(path: Path, *more: str) -> list[dict]:
    """A file of JSON lines; [] if it is missing. The last line may be incomplete: a training may be writing it.

    UserError if another line is broken, or one lacks what the file's lines have, or one of `more`.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(integrity.parse_object(line.decode()))
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise UserError(f"{path}, line {number}, is broken: {error}") from None
    for number, line in enumerate(found if path.name in LINES else (), 1):
        kinds = {name: KINDS.get(name, is_number) for name in (*LINES[path.name], *more, *line)}
        if wrong := integrity.mistyped(line, kinds):
            raise UserError(f"{path}, line {number}, is broken: {wrong}")
    return found


def write_lines(path: Path, lines: list[dict]) -> None:
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
