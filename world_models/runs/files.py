"""Files that are complete or absent, JSON that is checked when it is read, and room on the disk. Text is UTF-8."""

import errno
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from world_models.config import UserError

UNFINISHED = re.compile(r"\.(\d+)\.tmp\..+")  # a name of `tmp_path`
# File systems that cannot flush a file, or a folder, answer with one of these. The data is as safe as it can be there.
CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES)


def tmp_path(path: Path) -> Path:
    """Where this process writes a file before it is renamed to `path`. The suffix is kept, since some writers choose
    the format by it."""
    return path.with_name(f".{os.getpid()}.tmp.{path.name}")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Context manager that yields a temporary path and renames it to `path` if the block raises nothing.

    A reader sees the old file or the new one, also after a power cut. An OSError that names no file, as on a full disk,
    gets `path` as its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = tmp_path(path)
    try:
        yield tmp
        flush_to_disk(tmp)
        os.replace(tmp, path)
        flush_to_disk(path.parent)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        tmp.unlink(missing_ok=True)
        raise


def flush_to_disk(path: Path) -> None:
    """fsync of a file, or of the names in a folder."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in CANNOT_FLUSH:
            raise
    finally:
        os.close(number)


def require_room(path: Path, size: int, times: int = 1) -> None:
    """UserError unless `times` files of `size` bytes fit at `path`. Stages ask before they work for hours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):  # raises an OSError that names the folder where it is read-only
        free = shutil.disk_usage(path.parent).free
    if times * size > free:
        raise UserError(f"{path}: {times * size / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free on its disk")


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def require_regular(path: Path) -> None:
    """UserError if a pipe, a device or a folder stands in a file's place: who opens a pipe waits."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: expected a regular file; delete it")


def read_text(path: Path) -> str:
    """The text of a file; UserError if it is not UTF-8."""
    require_regular(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error}") from None


def copy(source: Path, to: Path) -> None:
    """Copies a file's content. On a full disk the error names `to`, where `shutil.copyfile` would name the source."""
    require_regular(source)
    with open(source, "rb") as file, atomic_write(to) as tmp, open(tmp, "wb") as out:
        shutil.copyfileobj(file, out)


def remove_unfinished(folder: Path) -> None:
    """Removes the temporary files of processes of this host that have ended."""
    for path in folder.rglob(".[0-9]*.tmp.*"):
        found = UNFINISHED.fullmatch(path.name)
        if found and path.is_file() and not path.is_symlink() and not is_alive(found[1]):
            path.unlink(missing_ok=True)


def is_alive(process: str) -> bool:
    """Whether a process of this host works. One that has ended stays a zombie until its parent asks for its status,
    and in many containers nobody does."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def require_own_folders(run: Path) -> None:
    """UserError if a run holds a link to a folder: a command would write where it leads. A link to a file is replaced
    and not followed. A `record` may be a link, since `episodes.write` refuses it."""
    for folder, names, _ in os.walk(run):
        for name in names:
            if name != "record":
                require_no_link(Path(folder, name))


def require_no_link(folder: Path) -> None:
    if folder.is_symlink():
        raise UserError(f"{folder} is a link to {folder.resolve()}, and nothing is written there; make it a folder")


# JSON


def parse_object(text: str) -> dict:
    """A JSON object. ValueError if it is not one, or holds a number that is not finite, including overflow such as
    1e999."""
    content = json.loads(text, parse_constant=_finite, parse_float=_finite)
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, found {type(content).__name__}")
    return content


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"expected finite numbers, found {text}")
    return number


def read_json(path: Path) -> dict:
    """The object in a JSON file; UserError if there is none."""
    try:
        return parse_object(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


def is_number(value: Any) -> bool:
    """Whether a value from JSON is a number that a float can hold. True is not a number."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def is_count(value: object) -> bool:
    """Whether a value from JSON is an integer of 64 bits."""
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def is_text(value: object) -> bool:
    return isinstance(value, str)


def optional(fits: Callable) -> Callable:
    return lambda value: value is None or fits(value)


def list_of(fits: Callable) -> Callable:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def describe_type_error(content: dict, kinds: dict[str, Callable], more: Mapping[str, Callable] = {}) -> str:
    """The first value of an object from JSON that is missing or of the wrong kind, as a message; "" if all fit.

    `kinds` has a predicate for each value that must exist, `more` for those that may be missing.
    """
    for name, fits in {**kinds, **more}.items():
        if name in content and not fits(content[name]):
            return f"its {name} is {content[name]!r:.60}"
        if name in kinds and name not in content:
            return f"its {name} is missing"
    return ""


# JSON lines


def append_line(path: Path, line: dict) -> None:
    """Appends an object to a file of JSON lines, which must not be a link or a pipe. An OSError names the file."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        with open(number, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        error.filename = str(path)
        raise


def is_evaluation(value: Any) -> bool:
    """Whether a value is an evaluation in history.jsonl: null, or numbers, among them a mean."""
    if not isinstance(value, dict):
        return value is None
    return "mean" in value and all(is_number(one) or isinstance(one, dict) for one in value.values())


# What each line of these files must hold. Every other value of a line must be a number.
LINES = {"metrics.jsonl": ("model", "step", "seconds"), "history.jsonl": ("generation", "seconds", "mean")}
KINDS = {"model": is_text, "step": is_count, "generation": is_count, "evaluation": is_evaluation}


def read_lines(path: Path, *more: str) -> list[dict]:
    """The objects in a file of JSON lines; [] if there is no file. The last line may be incomplete, since a training
    may be writing it. UserError if another line is broken, or if a line lacks one of LINES or of `more`."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(parse_object(line.decode()))
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise UserError(f"{path}, line {number}, is broken: {error}") from None
    for number, values in enumerate(found if path.name in LINES else (), 1):
        kinds = {name: KINDS.get(name, is_number) for name in (*LINES[path.name], *more, *values)}
        if wrong := describe_type_error(values, kinds):
            raise UserError(f"{path}, line {number}, is broken: {wrong}")
    return found


def write_lines(path: Path, lines: list[dict]) -> None:
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
