"""What killed commands leave, and whether a process is one of these."""

import socket
from contextlib import suppress
from pathlib import Path

from world_models.runs import storage
from world_models.mpi import OWN_MEMORY, SHARED_MEMORY


def start_of(process: int) -> str | None:
    """When a process started, in the system's ticks: another of the same number has another; None if there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()[19]
    except OSError:
        return None


def alive(process: int | None, clock: str | None = None) -> bool:
    """Whether a process of this host is running (and, with `clock`, is the one that started then)."""
    if not isinstance(process, int):
        return False
    found = start_of(process)
    return found is not None and clock in (None, found)


def abandoned(path: Path) -> bool:
    """Whether a path is no link, and has the `storage.tmp_path` of a process that is gone."""
    found = storage.UNFINISHED.fullmatch(path.name)
    return found is not None and not path.is_symlink() and not alive(int(found[1]))


def clear(run: Path, last: dict) -> None:
    """Removes what killed commands left: unfinished files of processes that are gone, and the shared memory of the last
    holder of the lock, if that was killed.

    Args:
        run: the run folder, whose lock is held.
        last: who the lock file named before; {} if it was given up in order.
    """
    for path in run.rglob(".[0-9]*.tmp.*"):
        if path.is_file() and abandoned(path):
            path.unlink(missing_ok=True)
    if last.get("host") == socket.gethostname():
        for name in last.get("shared_memory", []):
            if isinstance(name, str) and OWN_MEMORY.fullmatch(name):
                with suppress(OSError):
                    (SHARED_MEMORY / name).unlink()
