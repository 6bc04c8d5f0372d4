"""Signals, lone exits and hangs, in processes of their own: as little as a stage can be, under the real launcher."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, mpirun

from world_models import interruption
from world_models.progress import note
from world_models.quiet import silent

STAGE = """
import os, sys, time
sys.path.insert(0, {root!r})
from world_models import command_line, interruption, mpi

def main(comm):
    open(f"rank{{comm.rank}}", "w").write(str(os.getpid()))
    {body}

mpi.launch(main)
"""
ENDLESS = "while True: time.sleep(0.1)"
CALCULATES = "import numpy; numpy.linalg.svd(numpy.ones((5000, 5000)))"  # in C, for minutes
LIMIT = 5.0  # seconds in which every rank ends


def start(folder: Path, body: str, ranks: int) -> subprocess.Popen:
    """Starts a stage with this body; returns when all its ranks work."""
    script = folder / "stage.py"
    script.write_text(STAGE.format(root=str(ROOT), body=body.strip()))
    command = [*mpirun(ranks), sys.executable, script, "--run", "a b"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def listen() -> None:
        """A shell ignores SIGINT for what it starts in the background, nohup SIGHUP; and so would their children."""
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    job = subprocess.Popen(command, cwd=folder, start_new_session=True, preexec_fn=listen, **pipes)
    deadline = time.monotonic() + 60
    while not all(rank_of(folder, k) for k in range(max(ranks, 1))):
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()
        time.sleep(0.02)
    return job


def rank_of(folder: Path, rank: int) -> int:
    """The process number of a rank; 0 before it works."""
    path = folder / f"rank{rank}"
    return int(path.read_text() or 0) if path.exists() else 0


def gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists() or ") Z " in Path(f"/proc/{process}/stat").read_text()


def said(err: str) -> list[str]:
    """The lines of stderr without the launcher's own at Ctrl-C."""
    return [line for line in err.splitlines() if not line.startswith("[mpiexec")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("target", ["alone", "mpirun", "rank 0", "rank 2"])
def test_a_signal_ends_every_rank_at_once_with_one_line(number, target, tmp_path):
    if target.startswith("rank") and number != signal.SIGTERM:
        pytest.skip("what reaches a rank is the same for all")
    ranks = 0 if target == "alone" else 3
    job = start(tmp_path, ENDLESS, ranks)
    sent = time.monotonic()
    os.kill(rank_of(tmp_path, int(target[-1])) if target.startswith("rank") else job.pid, number)
    _, err = job.communicate(timeout=30)
    assert time.monotonic() - sent < LIMIT and job.returncode == 128 + number, err
    line = f"stopped by {number.name}; rerun the same command to resume: python stage.py --run 'a b'"
    assert said(err) == [line]
    while not all(gone(rank_of(tmp_path, k)) for k in range(max(ranks, 1))):  # mpirun may end a moment before them
        assert time.monotonic() - sent < LIMIT
        time.sleep(0.02)


@pytest.mark.parametrize("body", ["mpi.on_root(comm, time.sleep, 60)", CALCULATES])
def test_a_signal_is_heard_while_ranks_wait_or_calculate(body, tmp_path):
    job = start(tmp_path, body, 2)
    sent = time.monotonic()
    os.kill(rank_of(tmp_path, 1), signal.SIGTERM)
    _, err = job.communicate(timeout=30)
    assert time.monotonic() - sent < LIMIT and job.returncode == 128 + signal.SIGTERM
    assert len(said(err)) == 1 and "stopped by SIGTERM" in err, err


def test_a_second_signal_changes_nothing(tmp_path):
    job = start(tmp_path, ENDLESS, 2)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        os.kill(rank_of(tmp_path, 0), number)
    _, err = job.communicate(timeout=30)
    assert job.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT) and len(said(err)) == 1, err


@pytest.mark.parametrize(
    "script, number",
    [("train_vae.py", signal.SIGINT), ("train_rnn.py", signal.SIGTERM), ("evaluate.py", signal.SIGTERM)],
)
def test_a_signal_while_libraries_are_imported_is_heard(script, number, tmp_path):
    """The imports take seconds. Here the signal comes as TensorFlow is to be imported, or MPI to start."""
    code = f"import os, runpy, sys, time; sys.argv = [{script!r}, '--run', 'a b']; sys.path.insert(0, {str(ROOT)!r})\n"
    code += "from world_models import mpi, training\n"
    code += f"def signalled(*_): os.kill(os.getpid(), {int(number)}); time.sleep(60)\n"
    code += "training.quiet_tensorflow = mpi.unlink_shared_memory = signalled\n"
    code += f"runpy.run_path({str(ROOT / script)!r}, run_name='__main__')"
    command, listen = [sys.executable, "-c", code], functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    done = subprocess.run(command, cwd=tmp_path, preexec_fn=listen, capture_output=True, text=True)
    assert done.returncode == 128 + number, done.stderr
    line = f"stopped by {number.name}; rerun the same command to resume: python {script} --run 'a b'"
    assert done.stderr.splitlines() == [line] and not os.listdir(tmp_path)


def test_a_note_is_heard_while_a_library_is_silent(capfd):
    with silent():
        os.write(2, b"a library's words\n")
        note("stopped by SIGTERM")
    assert capfd.readouterr().err == "stopped by SIGTERM\n"


# Writes which of the signals' handlers run on a stack of their own. glibc's struct sigaction: handler, mask, flags.
STACKS = """
    import ctypes, faulthandler, signal
    libc, found = ctypes.CDLL(None), (ctypes.c_uint32 * 64)()
    on_stack = 0x08000000
    for number in interruption.HANDLED:
        libc.sigaction(int(number), None, found)
        if signal.getsignal(number) is not signal.SIG_IGN:
            with open(f"stack{comm.rank}", "a") as file:
                print(number.name, bool(found[34] & on_stack), faulthandler.is_enabled(), file=file)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads glibc's structures")
@pytest.mark.parametrize("ranks", [0, 2])
def test_handlers_have_a_stack_of_their_own(ranks, tmp_path):
    """faulthandler's. Without it a signal in the middle of a convolution corrupts the heap. MPI puts a handler for
    SIGUSR1 before ours."""
    _, err = start(tmp_path, STACKS, ranks).communicate(timeout=30)
    for rank in range(max(ranks, 1)):
        lines = (tmp_path / f"stack{rank}").read_text().splitlines()
        assert set(lines) == {f"{one.name} True True" for one in interruption.HANDLED}, err


def test_nohup_is_respected(tmp_path):
    script = "import signal; from world_models import interruption as i; i.listen(); print(signal.getsignal(1).name)"
    done = subprocess.run(["nohup", sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "SIG_IGN", done


@pytest.mark.parametrize(
    "body, status, expected",
    [
        ("if comm.rank == 1: sys.exit(3)\n    mpi.wait(comm)", 3, "rank 1 has ended, others have not"),
        ("mpi.on_root(comm, sys.exit, 3)", 1, "SystemExit: 3"),
        ("sys.exit(3)", 3, ""),
    ],
    ids=["one rank", "rank 0 in a step of all", "all ranks"],
)
def test_a_rank_that_exits_does_not_leave_the_others_hanging(body, status, expected, tmp_path):
    job = start(tmp_path, f"time.sleep(1)\n    mpi.LEAVING = 1.0\n    {body}", 2)
    _, err = job.communicate(timeout=30)
    assert job.returncode == status and expected in err, (job.returncode, err)


def test_a_rank_that_hangs_ends_the_job_and_shows_where(tmp_path):
    body = """
    time.sleep(1)
    mpi.HANG = 1.0
    with mpi.hang_limit(comm) as within_limit:
        while comm.rank == 1:
            time.sleep(3600)  # the step that never ends
    mpi.wait(comm)
"""
    job = start(tmp_path, body, 2)
    _, err = job.communicate(timeout=30)
    assert job.returncode != 0 and "Timeout" in err and 'stage.py", line' in err
    assert all(gone(rank_of(tmp_path, k)) for k in range(2))


def test_a_training_that_another_command_has_started_says_how_to_resume_that_command(tmp_path):
    """One line for both processes. The signal may reach either of them."""
    (tmp_path / "child.py").write_text(
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from world_models import command_line\n"
        "command_line.command(lambda: print('ready', flush=True) or time.sleep(60))"
    )
    body = f"""
    import train_all
    from pathlib import Path
    from types import SimpleNamespace
    from world_models.runs.lock import Lock
    run = SimpleNamespace(path=Path("run"), lock=Lock(Path("run")), config=SimpleNamespace(task="doom"))
    train_all.train(comm, {str(tmp_path / "child.py")!r}, run, False)
"""
    job = start(tmp_path, body, 2)
    assert job.stdout.readline() == "ready\n"
    child = int(subprocess.check_output(["pgrep", "-P", str(rank_of(tmp_path, 0))]).split()[0])
    os.kill(child, signal.SIGTERM)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 128 + signal.SIGTERM
    assert said(err) == ["stopped by SIGTERM; rerun the same command to resume: python stage.py --run 'a b'"]
    assert gone(child)


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_signal_after_the_work_changes_nothing(ranks, tmp_path):
    """Python restores the default actions as it exits, except for signals that are ignored."""
    body = "import atexit; atexit.register(lambda: print(signal.getsignal(signal.SIGTERM).name))\n    import signal"
    out, err = start(tmp_path, body, ranks).communicate(timeout=30)
    assert out.replace("\n", "") == "SIG_IGN" * max(ranks, 1), err  # ranks' lines may run into each other


@pytest.mark.parametrize("ranks", [0, 2])
def test_killed_ranks_leave_no_shared_memory(ranks, tmp_path):
    maps = "mpi.wait(comm)\n    print(*open('/proc/self/maps').read().split(), flush=True)\n    time.sleep(60)"
    job = start(tmp_path, maps, ranks)
    assert not [name for name in job.stdout.readline().split() if "/mpich_shm_" in name and os.path.exists(name)]
    os.kill(rank_of(tmp_path, 0), signal.SIGKILL)
    job.communicate(timeout=30)
    assert all(gone(rank_of(tmp_path, k)) for k in range(max(ranks, 1)))
