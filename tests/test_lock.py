"""The lock of a run folder, and what it clears away."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from conftest import ROOT
from small_run import make_run

from world_models import mpi
from world_models.config import UserError
from world_models.runs import leftovers, lock
from world_models.stages.variations import evolve_and_test

HOLDER = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from world_models.runs import lock
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(run: Path) -> subprocess.Popen:
    """A process that holds a run's lock."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    job = subprocess.Popen([sys.executable, "-c", HOLDER, run], **pipes)
    assert job.stdout.readline() == "held\n"
    return job


def test_a_second_command_says_who_is_there_and_leaves(tmp_path):
    run = tmp_path / "run"
    job = holder(run)
    try:
        with pytest.raises(UserError) as caught, lock.hold(run):
            pass
        for word in (str(run), f"process {job.pid}", socket.gethostname(), "since 20"):
            assert word in str(caught.value)
    finally:
        job.communicate("\n", timeout=30)
    with lock.hold(run):  # given up in order
        assert json.loads((run / lock.NAME).read_text())["process"] == os.getpid()
    assert not run.exists()  # it was empty


def test_a_holder_that_has_not_written_its_name_yet_is_named(tmp_path, monkeypatch):
    path = tmp_path / lock.NAME
    path.write_text(json.dumps({"host": socket.gethostname(), "process": 1, "clock": "0", "command": "killed.py"}))
    owner = {"host": socket.gethostname(), "process": os.getpid(), "clock": lock.start_of(os.getpid())}
    with open(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # What the wait for it does: it writes meanwhile.
        monkeypatch.setattr(lock.time, "sleep", lambda _: path.write_text(json.dumps(owner | {"command": "new.py"})))
        with pytest.raises(UserError, match=rf"in use by new\.py \(process {os.getpid()}"), lock.hold(tmp_path):
            pass


def test_the_holder_is_named_before_its_folder_is_searched(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(lock, "clear", lambda run, _: found.append(json.loads((run / lock.NAME).read_text())))
    with lock.hold(tmp_path):
        assert found[0]["process"] == os.getpid()


def test_an_agent_s_run_is_locked(tmp_path):
    make_run(tmp_path, "doom")
    with lock.hold(tmp_path / "agents/seed-1"), pytest.raises(UserError, match=r"agents/seed-1 is in use"):
        evolve_and_test(mpi.world(), tmp_path, {}, [{"seed": 1}], 1)


def test_a_lock_left_by_a_crash_is_taken_over(tmp_path):
    job = holder(tmp_path)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert (tmp_path / lock.NAME).exists()
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / lock.NAME).read_text())["process"] == os.getpid()


def test_a_stage_of_the_holder_is_let_in(tmp_path):
    with lock.hold(tmp_path):
        options = {"env": os.environ | {lock.HOLDER: str(os.getpid())}, "input": "\n", "text": True}
        child = subprocess.run([sys.executable, "-c", HOLDER, tmp_path], capture_output=True, **options)
        assert child.stdout == "held\n", child.stderr
        assert (tmp_path / lock.NAME).exists()  # it is still the parent's


@pytest.mark.parametrize("told, clock, let_in", [(True, True, True), (False, True, False), (True, False, False)])
def test_only_what_the_holder_has_started_is_let_in(told, clock, let_in, tmp_path, monkeypatch):
    """Not whoever has it for a parent, as a shell that was replaced by a stage; nor if its number was another's."""
    monkeypatch.setattr(lock, "end_with", lambda _: None)
    monkeypatch.setattr(lock.time, "sleep", lambda _: None)
    parent = os.getppid()
    if told:
        monkeypatch.setenv(lock.HOLDER, str(parent))
    owner = {"host": socket.gethostname(), "process": parent, "clock": lock.start_of(parent) if clock else "1"}
    path = tmp_path / lock.NAME
    path.write_text(json.dumps(owner))
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with nullcontext() if let_in else pytest.raises(UserError, match="is in use"), lock.hold(tmp_path):
            pass
    assert json.loads(path.read_text()) == owner


def test_another_s_lock_is_not_removed_nor_touched(tmp_path, monkeypatch):
    """Of who has come after the file was removed by hand."""
    monkeypatch.setattr(lock, "BEAT", 0.01)
    path = tmp_path / lock.NAME
    with lock.hold(tmp_path):
        path.unlink()
        path.write_text("another's")
        os.utime(path, (1000, 1000))
        time.sleep(0.1)
        assert path.stat().st_mtime == 1000
    assert path.read_text() == "another's"


def test_a_stage_of_the_holder_ends_with_it(tmp_path):
    """As when rank 0 of train_all is killed while V is trained."""
    code = "import os, subprocess, sys; job = subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[2]], "
    code += f"env=os.environ | {{'{lock.HOLDER}': str(os.getpid())}}, stdin=subprocess.PIPE, stdout=subprocess.PIPE); "
    code += "job.stdout.readline(); print(job.pid, flush=True); job.wait()"
    command = [sys.executable, "-c", code, HOLDER, tmp_path]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert lock.alive(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while lock.alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lock.alive(child)
    orphan = subprocess.run(
        [sys.executable, "-c", HOLDER, tmp_path], env=os.environ | {lock.HOLDER: "1"}, input="", capture_output=True
    )
    assert orphan.returncode == -signal.SIGKILL and not orphan.stdout  # it has ended before this one began


def test_another_hosts_lock_counts_while_it_is_touched(tmp_path):
    """As on a file system whose flock does not reach the other host."""
    path = tmp_path / lock.NAME
    path.write_text(json.dumps({"host": "elsewhere", "process": 1, "command": "train_vae.py", "started": "now"}))
    with pytest.raises(UserError, match=r"train_vae\.py \(process 1 on elsewhere, since now\)"), lock.hold(tmp_path):
        pass
    old = time.time() - lock.STALE - 5
    os.utime(path, (old, old))
    with lock.hold(tmp_path):
        assert json.loads(path.read_text())["host"] == socket.gethostname()


def test_without_flock_the_process_is_asked_for(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(38, "no flock")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    owner = {"host": socket.gethostname(), "process": os.getppid(), "clock": lock.start_of(os.getppid())}
    path = tmp_path / lock.NAME
    path.write_text(json.dumps(owner | {"process": os.getpid(), "clock": lock.start_of(os.getpid())}))
    with pytest.raises(UserError, match="is in use"), lock.hold(tmp_path):
        pass
    path.write_text(json.dumps(owner | {"process": os.getpid(), "clock": "1"}))  # another process had that number
    with lock.hold(tmp_path):
        pass
    path.write_text("half of a li")
    with lock.hold(tmp_path):
        pass


def test_unfinished_files_of_dead_processes_are_cleared_and_no_others(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = [f".{dead.pid}.tmp.vae.weights.h5", f"record/.{dead.pid}.tmp.000001.npz", f".{dead.pid}.tmp.a.mp4.mp4"]
    kept = [f".{os.getpid()}.tmp.report.md", ".note", "record/000001.npz", f".{dead.pid}", f".{dead.pid}.notes.md"]
    (tmp_path / "record").mkdir()
    for name in (*left, *kept):
        (tmp_path / name).write_text("x")
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / left[0]).write_text("x")
    (tmp_path / "before").symlink_to(outside)
    with lock.hold(tmp_path):
        assert not [name for name in left if (tmp_path / name).exists()]
        assert all((tmp_path / name).exists() for name in kept)
        assert (outside / left[0]).exists()


def test_shared_memory_of_a_killed_command_is_cleared(tmp_path, monkeypatch):
    """MPI's, whatever else the lock lists: it may be a stranger's."""
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path / "shm")
    (tmp_path / "shm").mkdir()
    ours = ["mpich_shm_57d6_0", "vader_segment.node-1.0.5f3a0001.0", "sm_segment.node.lan.1000.2.0"]
    others = ["sem.mp-x1", "psm_12", "mpich", "../outside"]
    for name in (*ours, *others):
        (tmp_path / "shm" / name).write_text("x")
    last = {"host": socket.gethostname(), "process": 1, "shared_memory": [*ours, *others, 3]}
    (tmp_path / lock.NAME).write_text(json.dumps(last))
    with lock.hold(tmp_path):
        assert not any((tmp_path / "shm" / name).exists() for name in ours)
        assert all((tmp_path / "shm" / name).exists() for name in others)


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_what_a_lock_would_overwrite_is_refused(kind, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    if kind == "link":
        (run / lock.NAME).symlink_to(target)
    elif kind == "hard link":
        os.link(target, run / lock.NAME)
    else:
        os.mkfifo(run / lock.NAME)
    with pytest.raises(UserError, match=r"run/\.lock is a link, or no regular file"), lock.hold(run):
        pass
    assert target.read_text() == "precious" and os.path.lexists(run / lock.NAME)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        json.dumps({"host": socket.gethostname(), "shared_memory": None}),
        json.dumps({"host": [socket.gethostname()], "process": "1", "clock": {}}),
        b"\xff\xfe",
    ],
    ids=["nested", "null", "other types", "bytes"],
)
def test_a_lock_that_says_nothing_is_taken_over(content, tmp_path):
    (tmp_path / lock.NAME).write_bytes(content if isinstance(content, bytes) else content.encode())
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / lock.NAME).read_text())["process"] == os.getpid()
