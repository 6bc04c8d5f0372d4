"""manifest.json: where each file of a run folder comes from."""

import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
import zipfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from world_models.config import UserError
from world_models.runs import files

NAME = "manifest.json"
ROOT = Path(__file__).parent.parent.parent
LOCK = ROOT / "requirements.lock"


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content. It is computed once as long as the file is not changed."""
    files.require_regular(path)
    found = path.stat()
    return _sha256(path, found.st_ino, found.st_mtime_ns, found.st_size)


@cache
def _sha256(path: Path, *version: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def episode_digest(path: Path) -> str:
    """The digest of an episode's file, from the checksums of its arrays: thousands of them are checked in seconds."""
    files.require_regular(path)
    with zipfile.ZipFile(path) as archive:
        members = [(member.filename, member.CRC, member.file_size) for member in archive.infolist()]
    return digest_of(members)


def digest_of(content: object) -> str:
    """The SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def are_texts(value: object, names: str = ".*") -> bool:
    """Whether a value from JSON is an object of texts, whose names match an expression."""
    return isinstance(value, dict) and all(re.fullmatch(names, key) and files.is_text(value[key]) for key in value)


def is_row(name: str, value: object) -> bool:
    """Whether a value from JSON is the row of the file or folder with this name."""
    kinds: dict = {"made_from": are_texts, "sha256": files.is_text}
    if name in ("record", "linked"):  # another name of an episode could lead out of the run
        kinds = {"made_from": are_texts, "episodes": lambda value: are_texts(value, r"\d{6,}\.npz")}
    more = {"seconds": files.is_number, "replaced": lambda row: is_row(name, row)}
    more |= {"command": files.is_text, "machine": files.is_text, "commit": files.optional(files.is_text)}
    return isinstance(value, dict) and not files.describe_type_error(value, kinds, more)


class Manifest:
    """The rows of a run folder's manifest.json.

    Attributes:
        rows: by name of the file, a dict with sha256 (of a folder of episodes: episodes, a digest by name), made_from
            (digests by name), settings, command, commit, seconds and machine. `replaced` is the row of the file whose
            place a new one takes: a process that is killed between both writes leaves the old file.
        begun: {"from": DIR} or {"after": DIR}, the run that this one began from, relative to the folder.
        packed: whether the folder is a pack, which is read-only.
    """

    def __init__(self, run: Path):
        self.path = run / NAME
        content = files.read_json(self.path) if self.path.exists() else {}
        self.rows: dict[str, dict] = content.get("files", {})
        self.begun: dict[str, str] = content.get("begun", {})
        self.packed = content.get("packed") is True
        fits = are_texts(self.begun) and isinstance(self.rows, dict)
        if not fits or not all(is_row(*item) for item in self.rows.items()):
            raise UserError(f"{self.path} is not a manifest: expected an object with a row for each file")
        self.started = time.monotonic()

    def save(self) -> None:
        content = {"packed": self.packed, "begun": self.begun, "files": self.rows}
        files.write_text(self.path, json.dumps(content, indent=1) + "\n")

    def put(self, name: str, digest: dict, made_from: dict[str, str], settings: dict, seconds: float = 0.0) -> None:
        """Adds a file's row and writes the manifest. `digest`: {"sha256": ...} or {"episodes": {...}}; `seconds`: what
        earlier commands have spent on it."""
        row = {**digest, "made_from": made_from, "settings": settings}
        row |= {"command": command(), "commit": commit(), "machine": machine()}
        row["seconds"] = round(seconds + time.monotonic() - self.started, 1)
        if name in self.rows and "sha256" in digest:
            row["replaced"] = {key: value for key, value in self.rows[name].items() if key != "replaced"}
        self.rows[name] = row
        self.save()

    def row_of(self, name: str, path: Path) -> dict | None:
        """The row of the content that a file has now; None if it has none. UserError if the file was modified."""
        if name not in self.rows:
            return None
        found = sha256(path)
        for one in (self.rows[name], self.rows[name].get("replaced", {})):
            if one.get("sha256") == found:
                return one
        raise UserError(f"{path} was modified after it was written (its SHA-256 differs from {NAME})")


# Provenance


def command(shared: bool = True) -> str:
    """This process's command, as it can be typed after `python`. Where others read it (`shared`), an absolute path is
    given by its last part, since it names the user's folders."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # None for a script
    program = [Path(sys.argv[0]).name] if spec is None else ["-m", spec.name.removesuffix(".__main__")]
    return shlex.join([*program, *(shorten(argument) if shared else argument for argument in sys.argv[1:])])


def shorten(argument: str) -> str:
    """An argument without the folders of an absolute path."""
    flag, equals, value = argument.partition("=")
    if equals and flag.startswith("--"):
        return f"{flag}={shorten(value)}"
    return Path(argument).name if argument.startswith(("/", "~")) else argument


@cache
def commit() -> str | None:
    """The commit of this code, followed by "+" if tracked files have changed since; None outside of git."""
    try:
        call = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        # A GIT_DIR that the user has set for another repository must not stand for this one.
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(call, capture_output=True, text=True, timeout=30, env=env)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def versions() -> dict[str, str]:
    """The installed version of every package that requirements.lock names, and of Python."""
    found = {"python": platform.python_version()}
    text = LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""
    for name in re.findall(r"^([\w.-]+)==", text, re.M):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # it belongs to another system
    return found


@cache
def machine() -> str:
    """The processor's name, family and model, and the number of cores. Clouds hide a part of it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names, kinds = (re.findall(rf"^{key}\s*: (.*)$", text, re.M) for key in ("model name", "(?:cpu family|model)"))
    kind = f" (family {kinds[0]}, model {kinds[1]})" if len(kinds) > 1 else ""
    return f"{names[0]}{kind}, {len(names)} cores" if names else platform.machine()
