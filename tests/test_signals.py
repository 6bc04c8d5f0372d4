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

from world_models import signals

STAGE = """
import os, sys, time
sys.path.insert(0, {root!r})
from world_models import command_line, mpi, signals
from controller.jobs import Jobs

def main(comm):
    open(f"rank{{comm.rank}}", "w").write(str(os.getpid()))
    {body}

mpi.launch(main)
"""

# A generation that never ends: each rank plays until it hears of a signal.
ENDLESS = """
    jobs = Jobs(comm, 10**6)
    while not mpi.stopping(comm):
        jobs.take(1, wait=True)
        jobs.serve()
        time.sleep(0.01)
    jobs.close()
    mpi.stop_together(comm, "step 7 is saved")
"""


def start(folder: Path, body: str, ranks: int) -> subprocess.Popen:
    """Starts a stage with this body; returns when all its ranks work."""
    script = folder / "stage.py"
    script.write_text(STAGE.format(root=str(ROOT), body=body.strip()))
    command = [*mpirun(ranks), sys.executable, script]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def listens() -> None:
        """A shell ignores SIGINT for what it starts in the background, nohup SIGHUP; and so would their children."""
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    job = subprocess.Popen(command, cwd=folder, start_new_session=True, preexec_fn=listens, **pipes)
    deadline = time.monotonic() + 60
    while not all(rank_of(folder, k) for k in range(max(ranks, 1))):
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()
        time.sleep(0.02)
    time.sleep(0.2)
    return job


def rank_of(folder: Path, rank: int) -> int:
    """The process number of a rank; 0 before it works."""
    path = folder / f"rank{rank}"
    return int(path.read_text() or 0) if path.exists() else 0


def gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists() or ") Z " in Path(f"/proc/{process}/stat").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("target", ["alone", "mpirun", "rank 0", "rank 1"])
def test_a_signal_ends_every_rank_with_one_line(number, target, tmp_path):
    if target in ("rank 0", "rank 1") and number != signal.SIGTERM:
        pytest.skip("what reaches a rank is the same for all")
    ranks = 0 if target == "alone" else 3
    job = start(tmp_path, ENDLESS, ranks)
    os.kill(rank_of(tmp_path, int(target[-1])) if target.startswith("rank") else job.pid, number)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 128 + number
    said = [line for line in err.splitlines() if not line.startswith("[mpiexec")]  # of Ctrl-C
    name = signal.Signals(number).name
    assert said == [f"stopped by {name}: step 7 is saved; the same command again: stage.py"], err
    assert all(gone(rank_of(tmp_path, k)) for k in range(max(ranks, 1)))


def test_rank_0_hears_of_a_signal_to_another_while_it_works_alone(tmp_path):
    body = """
    def film():
        while True:
            signals.stop("half a film")
            time.sleep(0.01)
    mpi.on_root(comm, film)
"""
    job = start(tmp_path, body, 2)
    os.kill(rank_of(tmp_path, 1), signal.SIGTERM)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 128 + signal.SIGTERM and "SIGTERM: half a film; the same command" in err, err


@pytest.mark.parametrize(
    "script, number",
    [("train_vae.py", signal.SIGINT), ("train_rnn.py", signal.SIGTERM), ("evaluate.py", signal.SIGTERM)],
)
def test_a_signal_while_libraries_are_imported_is_heard(script, number, tmp_path):
    """Which takes seconds; here it comes with certainty, as TensorFlow is to be imported or MPI to start."""
    code = f"import os, runpy, sys; sys.argv = [{script!r}, '--run', 'a b']; sys.path.insert(0, {str(ROOT)!r})\n"
    code += "from common import mpi, training\n"
    code += "def signalled(*_): os.kill(os.getpid(), int(os.environ['NUMBER']))\n"
    code += "training.quiet_tensorflow = mpi.unlink_shared_memory = signalled\n"
    code += f"runpy.run_path({str(ROOT / script)!r}, run_name='__main__')"
    listens = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    env = os.environ | {"NUMBER": str(int(number))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, preexec_fn=listens, capture_output=True, text=True
    )
    assert done.returncode == 128 + number, done.stderr
    said = f"stopped by {number.name}: nothing was begun; the same command again: {script} --run 'a b'"
    assert done.stderr.splitlines()[-1] == said and "Traceback" not in done.stderr
    assert not os.listdir(tmp_path)


def test_a_module_s_command_is_given_as_it_was_typed(tmp_path):
    package = tmp_path / "tools_of_mine"
    package.mkdir()
    code = f"import sys; sys.path.append({str(ROOT)!r})\nfrom common import provenance; print(provenance.command())"
    (package / "__main__.py").write_text(code)
    (package / "pack.py").write_text(code)
    for program in (["-m", "tools_of_mine.pack"], ["-m", "tools_of_mine"], ["tools_of_mine/pack.py"]):
        command = [sys.executable, *program, "--run", "a b"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        typed = " ".join(part.removeprefix("tools_of_mine/") for part in program)
        assert done.stdout == f"{typed} --run 'a b'\n", done.stderr


# Writes which of the signals' handlers run on a stack of their own. glibc's struct sigaction: handler, mask, flags.
STACKS = """
    import ctypes, faulthandler, signal
    libc, found = ctypes.CDLL(None), (ctypes.c_uint32 * 64)()
    on_stack = 0x08000000
    for number in signals.HANDLED:
        libc.sigaction(int(number), None, found)
        if signal.getsignal(number) is not signal.SIG_IGN:
            with open(f"stack{comm.rank}", "a") as file:
                print(number.name, bool(found[34] & on_stack), faulthandler.is_enabled(), file=file)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads glibc's structures")
@pytest.mark.parametrize("ranks", [0, 2])
def test_handlers_have_a_stack_of_their_own(ranks, tmp_path):
    """faulthandler's, without which a signal in the middle of a convolution corrupts the heap: also after MPI has
    started, which puts a handler for SIGUSR1 before ours."""
    _, err = start(tmp_path, STACKS, ranks).communicate(timeout=30)
    for rank in range(max(ranks, 1)):
        lines = (tmp_path / f"stack{rank}").read_text().splitlines()
        assert set(lines) == {f"{one.name} True True" for one in signals.HANDLED}, err


def test_a_second_signal_ends_at_once(tmp_path):
    job = start(tmp_path, "while True: time.sleep(0.1)", 0)
    os.kill(job.pid, signal.SIGTERM)
    time.sleep(2.5)
    assert job.poll() is None  # the first one waits for the step's end
    os.kill(job.pid, signal.SIGINT)
    assert job.wait(timeout=10) == 128 + signal.SIGINT
    assert "Traceback" not in job.communicate()[1]


def test_nohup_is_respected(tmp_path):
    script = "import signal; from common import signals; signals.listen(); print(int(signal.getsignal(signal.SIGHUP)))"
    done = subprocess.run(["nohup", sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == str(int(signal.SIG_IGN)), done


@pytest.mark.parametrize(
    "body, status, said",
    [
        ("if comm.rank == 1: sys.exit(3)\n    mpi.wait(comm)", 3, "rank 1 has ended, others have not"),
        ("mpi.on_root(comm, sys.exit, 3)", 1, "SystemExit: 3"),
        ("sys.exit(3)", 3, ""),
    ],
    ids=["one rank", "rank 0 in a step of all", "all ranks"],
)
def test_a_rank_that_exits_does_not_leave_the_others_hanging(body, status, said, tmp_path):
    job = start(tmp_path, f"time.sleep(1)\n    mpi.LEAVING = 1.0\n    {body}", 2)
    _, err = job.communicate(timeout=30)
    assert job.returncode == status and said in err, (job.returncode, err)


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


ALONE = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from world_models import command_line, signals

def main():
    print("ready", flush=True)
    while True:
        time.sleep(0.1)
        signals.stop("step 3 is saved")

command_line.command(main)
"""


def test_a_stage_of_one_process_stops_after_its_step(tmp_path):
    script = tmp_path / "stage.py"
    script.write_text(ALONE)
    job = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "ready\n"
    job.send_signal(signal.SIGUSR1)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 128 + signal.SIGUSR1
    assert err == "stopped by SIGUSR1: step 3 is saved; the same command again: stage.py\n"


def test_a_training_that_another_command_has_started_says_how_to_go_on_with_that(tmp_path):
    """In one line, and not its parent in another."""
    child = tmp_path / "child.py"
    child.write_text(ALONE)
    job = start(tmp_path, f"import train_all\n    train_all.train(comm, {str(child)!r}, 'run', False)", 2)
    assert job.stdout.readline() == "ready\n"
    os.kill(rank_of(tmp_path, 1), signal.SIGTERM)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 128 + signal.SIGTERM
    assert err == "stopped by SIGTERM: step 3 is saved; the same command again: stage.py\n"


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_signal_after_the_work_changes_nothing(ranks, tmp_path):
    """Python, as it ends, gives signals back to their defaults, but for those that are ignored."""
    body = "import atexit; atexit.register(lambda: print(signal.getsignal(signal.SIGTERM).name))\n    import signal"
    out, err = start(tmp_path, body, ranks).communicate(timeout=30)
    assert out.replace("\n", "") == "SIG_IGN" * max(ranks, 1), err  # ranks' lines may run into each other


@pytest.mark.parametrize("ranks", [0, 2])
def test_killed_ranks_leave_no_shared_memory(ranks, tmp_path):
    job = start(tmp_path, "mpi.wait(comm)\n    print(*mpi.shared_memory(), flush=True)\n    time.sleep(60)", ranks)
    assert not [name for name in job.stdout.readline().split() if name.startswith("mpich")]
    os.kill(rank_of(tmp_path, 0), signal.SIGKILL)
    job.communicate(timeout=30)
    assert all(gone(rank_of(tmp_path, k)) for k in range(max(ranks, 1)))
