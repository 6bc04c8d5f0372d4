"""Cores and memory that this process may use: the machine's, or fewer in a container or a batch job (cgroups).

Print a number: python -I world_models/limits.py cores (or gigabytes). The file imports nothing of the package, so that
the Makefile can run it with any Python.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
SHARED = Path("/dev/shm")  # where processes exchange what they share
ALONE_MEMORY = 2e6  # bytes that MPICH takes there for a single rank, at least
RANK_MEMORY, START_MEMORY = 5.4e6, 10e6  # bytes for each of several ranks, and once more while they start


def _numbers(path: Path, key: str = "") -> list[int]:
    """The integers in a file or, with a key, in its lines that begin with it; none if it cannot be read. "max", which
    is no limit, is not an integer."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    words = [word for line in lines if line.startswith(key) for word in line.split()]
    return [int(word) for word in words if word.lstrip("-").isdigit()]


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of the control groups that may limit this process, from its own group to the root. A container may
    read its host's name of the group, of which it has no folder: its own limits are those of the root."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")  # version 2 names no controllers
        own = top / name.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if top in (folder, *folder.parents))


def cores(root: Path = ROOT) -> int:
    """The cores that this process may use, at least 1. A part of a core does not count."""
    found = len(os.sched_getaffinity(0))
    for group in _groups("cpu", root):
        quota = _numbers(group / "cpu.max")  # quota and period; the period alone without a quota
        quota = quota or _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us")
        if len(quota) == 2 and quota[0] > 0:  # -1: no quota, in version 1
            found = min(found, quota[0] // quota[1])
    return max(1, found)


def memory(root: Path = ROOT) -> int:
    """Bytes of memory that are available to this process. Files that the system has cached count as available."""
    found = 1024 * sum(_numbers(root / "proc/meminfo", "MemAvailable:"))
    for group in _groups("memory", root):
        for limit, used, cached in (
            ("memory.max", "memory.current", "inactive_file "),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
        ):
            if most := _numbers(group / limit):
                free = most[0] - sum(_numbers(group / used)) + sum(_numbers(group / "memory.stat", cached))
                found = min(found, free)
    return max(0, found)


def local_ranks() -> int:
    """The processes that MPI's launcher has started on this machine, or in this container, for one command."""
    return int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") or os.environ.get("MPI_LOCALNRANKS") or 1)


def mpi_memory(ranks: int) -> float:
    """Bytes of shared memory that so many ranks of a machine take."""
    return ranks * RANK_MEMORY + START_MEMORY if ranks > 1 else ALONE_MEMORY


def shared_memory() -> float:
    """Bytes of shared memory, used or not. A process that finds no room there ends in a bus error."""
    try:
        found = os.statvfs(SHARED)
    except OSError:
        return float("inf")  # not a system with such a folder
    return found.f_frsize * found.f_blocks


if __name__ == "__main__":
    print(cores() if sys.argv[1] == "cores" else memory() // 10**9)
