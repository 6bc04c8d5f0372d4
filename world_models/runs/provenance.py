"""What a result was made with: the commit of this code, and the versions of what it stands on."""

import platform
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LOCK = ROOT / "requirements.lock"


@cache
def commit() -> str | None:
    """The commit of this code, with "+" behind it if files that git follows have changed since; None without git."""
    try:
        call = ["git", "-C", ROOT, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        done = subprocess.run(call, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def command() -> str:
    """This process's command, as it can be typed again behind `python`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # None of a script
    program = [Path(sys.argv[0]).name] if spec is None else ["-m", spec.name.removesuffix(".__main__")]
    return shlex.join([*program, *sys.argv[1:]])


@cache
def versions() -> dict[str, str]:
    """The installed version of every package that requirements.lock names, and Python's."""
    found = {"python": platform.python_version()}
    for name in re.findall(r"^([\w.-]+)==", LOCK.read_text() if LOCK.exists() else "", re.M):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # of another system
    return found


def record() -> dict:
    """commit and versions, as rows of results and records of commands hold them."""
    return {"commit": commit(), "versions": versions()}
