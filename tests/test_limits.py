"""The limits of containers and batch jobs on cores and memory, in trees of files as the kernel shows them."""

import subprocess
import sys

import pytest
from conftest import ROOT

from world_models import limits, mpi, training
from world_models.config import UserError
from world_models.tasks import takecover_env

GIB = 1 << 30
TREES = {
    "version 2, in a container": (
        "0::/",
        {"cpu.max": "200000 100000", "memory.max": f"{4 * GIB}", "memory.current": f"{GIB}"},
    ),
    "version 2, a group below a limited one": (
        "0::/slice/job",
        {
            "slice/job/cpu.max": "max 100000",
            "slice/cpu.max": "250000 100000",
            "slice/memory.max": f"{4 * GIB}",
            "slice/memory.current": f"{2 * GIB}",
            "slice/memory.stat": f"anon {GIB}\ninactive_file {GIB}",
            "slice/job/memory.max": "max",
        },
    ),
    "version 1, the host's name of the group": (
        "5:memory:/docker/0a1b\n3:cpu,cpuacct:/docker/0a1b\n0::/docker/0a1b",
        {
            "cpu/cpu.cfs_quota_us": "200000",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": f"{4 * GIB}",
            "memory/memory.usage_in_bytes": f"{2 * GIB}",
            "memory/memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB}",
        },
    ),
}
UNLIMITED = {
    "no control groups": (None, {}),
    "version 2": ("0::/", {"cpu.max": "max 100000", "memory.max": "max"}),
    "version 1": (
        "5:memory:/\n3:cpu,cpuacct:/",
        {
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "9223372036854771712",
        },
    ),
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(groups, files) -> the root of a machine with 16 cores and 32 GiB of available memory."""
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda process: set(range(16)))

    def make(groups: str | None, files: dict[str, str]):
        files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
        files["proc/meminfo"] = f"MemTotal: 99999999 kB\nMemAvailable: {32 * GIB // 1024} kB\n"
        if groups is not None:
            files["proc/self/cgroup"] = groups
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n", encoding="utf-8")
        return tmp_path

    return make


@pytest.mark.parametrize("name", TREES)
def test_the_limits_of_a_container_are_found(name, machine):
    root = machine(*TREES[name])
    assert limits.cores(root) == 2
    assert limits.memory(root) == 3 * GIB


@pytest.mark.parametrize("name", UNLIMITED)
def test_without_limits_all_of_the_machine_may_be_used(name, machine):
    root = machine(*UNLIMITED[name])
    assert limits.cores(root) == 16
    assert limits.memory(root) == 32 * GIB


def test_less_than_a_core_or_no_memory_is_a_number_too(machine):
    root = machine("0::/", {"cpu.max": "50000 100000", "memory.max": "1000", "memory.current": "5000"})
    assert (limits.cores(root), limits.memory(root)) == (1, 0)


@pytest.mark.parametrize("cores, expected", [(2, [2]), (16, [])])
def test_training_starts_no_more_threads_than_it_may_use(cores, expected, machine, monkeypatch):
    import tensorflow as tf

    told = []
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", told.append)
    monkeypatch.setattr(limits, "cores", lambda: cores)
    training.use_machine()
    assert told == expected


def test_the_makefile_reads_the_limits():
    for name in ("cores", "gigabytes"):
        call = [sys.executable, "-I", "world_models/limits.py", name]
        printed = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert printed.strip().isdigit()
        assert f"-I world_models/limits.py {name})" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_ranks_and_engines_without_shared_memory_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MPI_LOCALNRANKS", "13")
    monkeypatch.setattr(limits, "shared_memory", lambda: 64.0 * 2**20)  # what Docker gives
    with pytest.raises(UserError, match=r"^13 ranks need 80 MB of shared memory, .* --shm-size=1g$"):
        mpi.world()
    monkeypatch.setenv("MPI_LOCALNRANKS", "4")
    monkeypatch.setattr(limits, "SHARED", tmp_path)
    for engine in range(48):
        (tmp_path / f"ViZDoomSM{engine}").touch()
    with pytest.raises(UserError, match=r"^the engines of Doom need 80 MB of shared memory, .* --shm-size=1g$"):
        takecover_env.make_game()


def test_the_size_of_shared_memory_is_read(monkeypatch, tmp_path):
    assert 1e6 < limits.shared_memory() < float("inf")
    monkeypatch.setattr(limits, "SHARED", tmp_path / "missing")
    assert limits.shared_memory() == float("inf")
