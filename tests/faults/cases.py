"""What is promised, case by case. Each case returns what was not as promised, "" if nothing."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from bench import STAGES, Bench, Stage, fingerprint, processes, rank_process, shared_memory, wait_for_lock

# A case's name, and what tries it.
Case = tuple[str, Callable[[random.Random], str]]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
ENDS = 5.0  # seconds in which every rank ends after a signal
GONE = 30.0  # seconds after which a process that is left is a fault
LOUD = "Traceback (most recent call last)"


# Kills and signals


def targets(stage: Stage) -> tuple[str, ...]:
    """What a signal is sent to: a rank of the stage, or its launcher; or a stage of one process itself."""
    return ("rank 1", "rank 0", "mpirun") if stage.ranks else ("process",)


def interruptions(bench: Bench, names: list[str], count: int, numbers: tuple[int, ...]) -> Iterator[Case]:
    """`count` signals of each kind at random moments, for each stage and target."""
    for name in names:
        for target in targets(STAGES[name]):
            for number in (one for one in numbers if (target, one) != ("mpirun", signal.SIGHUP)):  # it ends MPICH's
                for k in range(1, count + 1):
                    title = f"{name}: {signal.Signals(number).name} to {target}, {k} of {count}"
                    yield title, lambda rng, way=(name, target, number): interrupt(bench, *way, rng)


def interrupt(bench: Bench, name: str, target: str, number: int, rng: random.Random, begun: bool = False) -> str:
    """Sends a signal to a stage at a random moment of its work, or with `begun` as soon as a part of its work is saved.

    Promised: every rank ends in time, with one line that says how to resume, and the same command then gives the
    results of an undisturbed run.
    """
    stage = STAGES[name]
    run = bench.copy(stage, "case")
    for attempt in range(10):
        job = bench.start(stage.script, run, stage.flags.split(), stage.ranks)
        wait_for_lock(job, run)
        while begun and not (run / stage.begun).exists() and job.poll() is None:
            time.sleep(0.01)
        if not begun:  # sooner, if the stage was faster than when it was timed
            time.sleep(rng.uniform(0, 0.9) * bench.seconds.get(name, 3) / (1 + attempt))
        process = job.pid if target in ("mpirun", "process") else rank_process(job.case, int(target[-1]))
        hit, memory = process is not None and job.poll() is None, shared_memory(job.case)
        if hit:
            os.kill(process, number)
        if fault := ended_as_promised(job, number, hit):
            return fault
        end = time.monotonic() + ENDS  # a shell clears up after an engine
        while (left := [str(path) for path in memory if path.exists()]) and time.monotonic() < end:
            time.sleep(0.1)
        if left:
            return f"left behind: {left}"
        if hit:
            return completed_as_promised(bench, name, run)
        run = bench.copy(stage, "case")
    return "it ended before every signal"


def ended_as_promised(job: subprocess.Popen, number: int, hit: bool) -> str:
    """Waits for the end of a job that a signal was sent to (`hit`); what was wrong with it."""
    started = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        job.wait(GONE if hit else None)
    while (left := processes(job.case)) and time.monotonic() < started + GONE:
        time.sleep(0.05)
    ended = time.monotonic() - started
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    _, err = job.communicate()
    if left:
        return f"processes are left: {sorted(left)}"
    if not hit:
        return "" if job.returncode == 0 else f"status {job.returncode}: {err[-300:]}"
    if number == signal.SIGKILL:
        return ""
    said = [line for line in err.splitlines() if "stopped by " in line and "rerun the same command to resume" in line]
    # A signal after the last step changes nothing.
    if LOUD in err or (job.returncode and (job.returncode, len(said)) != (128 + number, 1)):
        return f"status {job.returncode}, expected {128 + number} and one line: {err[-300:]}"
    return f"it took {ended:.1f} s to end" if ended > ENDS and job.returncode else ""


def completed_as_promised(bench: Bench, name: str, run: Path) -> str:
    """Gives the same command again, to the end; what was wrong."""
    stage = STAGES[name]
    job = bench.start(stage.script, run, stage.flags.split(), stage.ranks)
    _, err = job.communicate()
    if job.returncode:
        return f"the same command failed: status {job.returncode}: {err[-300:]}"
    if fingerprint(run, stage) != bench.reference(name):
        return "the same command gave other results"
    left = [str(path.relative_to(run)) for path in run.rglob(".[0-9]*.tmp.*")]
    return f"left behind: {left}" if left else ""


# Damage

# Which stage reads a file. A folder stands for one of its files.
READ_BY = {
    "config.json": "C real",
    "manifest.json": "C real",
    "record/000001.npz": "V",
    "metrics.jsonl": "M",
    "vae.weights.h5": "C real",
    "series.npz": "M",
    "rnn.weights.h5": "C real",
    "controller/checkpoint.npz": "C real",
    "controller/best.json": "evaluate",
    "initial_z.npz": "C dream",
    "results.json": "evaluate",
}
WAYS = ("empty", "half", "noise", "flipped bytes", "another run's")


def damage(bench: Bench, other: Bench) -> Iterator[Case]:
    """Each file damaged in each way, or replaced by that of another run, then read by a stage."""
    for file, name in READ_BY.items():
        for way in WAYS:
            yield f"{file}, {way}: {name}", lambda rng, case=(file, name, way): spoil(bench, other, *case, rng)


def spoil(bench: Bench, other: Bench, file: str, name: str, way: str, rng: random.Random) -> str:
    """Gives a stage a file that is damaged.

    Promised: one line that names the file, status 2, and nothing else in the folder changed; or the usual results.
    """
    stage = STAGES[name]
    run, held = bench.copy(stage, "case"), (bench.bases[stage.base] / file).read_bytes()
    if way == "another run's":
        other.make("--seed 7")
        spoilt = (other.bases[stage.base] / file).read_bytes()
    else:
        flipped = bytearray(held)
        for _ in range(8):
            flipped[rng.randrange(len(held))] ^= 0xFF
        spoilt = {"empty": b"", "half": held[: len(held) // 2], "noise": rng.randbytes(len(held))}.get(way, flipped)
    (run / file).parent.mkdir(parents=True, exist_ok=True)
    (run / file).write_bytes(spoilt)
    before = state(run)
    job = bench.start(stage.script, run, stage.flags.split(), stage.ranks)
    _, err = job.communicate()
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    if job.returncode == 0:
        same = fingerprint(run, stage) == bench.reference(name)
        return "" if same else "was read without a word, and the results are others"
    if (job.returncode, len(said)) != (2, 1) or Path(file).name not in said[0] or LOUD in err:
        return f"status {job.returncode}: {err[-300:]}"
    return changed(before, run)


def state(run: Path) -> dict[str, bytes]:
    """A run's files, except for curves and the lock."""
    left_out = {".lock", "metrics.jsonl", "tensorboard"}
    paths = (path for path in run.rglob("*") if path.is_file() and not left_out & set(path.parts))
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


def changed(before: dict[str, bytes], run: Path, *allowed: str) -> str:
    after = state(run)
    found = [path for path, held in before.items() if after.get(path) != held and path not in allowed]
    return f"changed: {found}" if found else ""


def too_large(bench: Bench, name: str, size: int) -> str:
    """A stage whose files may have only `size` bytes.

    Promised: what exists stays, one line names the file, and the same command without the limit goes on.
    """
    stage = STAGES[name]
    run = bench.copy(stage, "case")
    before = state(run)
    job = bench.start(stage.script, run, stage.flags.split(), stage.ranks)
    wait_for_lock(job, run)  # MPI has started, which has files of its own
    for process in processes(job.case):
        with suppress(ProcessLookupError):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    _, err = job.communicate()
    said = [line for line in err.splitlines() if "error: " in line]  # perhaps behind another rank's bar
    if LOUD in err or (job.returncode and (job.returncode, len(said)) != (2, 1)):
        return f"status {job.returncode}: {err[-300:]}"
    if said and str(run) not in said[0]:
        return f"no file is named: {said[0]}"
    return changed(before, run, "manifest.json") or completed_as_promised(bench, name, run)


def disk(bench: Bench, names: list[str], sizes: tuple[int, ...]) -> Iterator[Case]:
    for name in names:
        for size in sizes:
            yield f"{name}: files of {size:,} bytes at most", lambda rng, case=(name, size): too_large(bench, *case)


# Launches and locks


def launches(bench: Bench) -> Iterator[Case]:
    """Odd ways to launch the search, which must all give the usual curve."""
    odd = {
        "5 ranks": {"ranks": 5},
        "more ranks than episodes": {"ranks": 12},
        "one process without mpirun": {"ranks": 0},
        "no HOME": {"env": {key: value for key, value in bench.env.items() if key != "HOME"}},
        "from another directory": {"cwd": "/"},
        "a folder with spaces and umlauts": {"name": "a run, übermäßig long"},
        "LANG=C and latin-1": {"env": bench.env | {"LANG": "C", "PYTHONIOENCODING": "latin-1"}},
    }
    for title, how in odd.items():
        yield f"launch: {title}", lambda rng, how=how: launch(bench, **how)


def launch(bench: Bench, name: str = "case", ranks: int = 2, **options) -> str:
    stage = STAGES["C real"]
    run = bench.copy(stage, name)
    job = bench.start(stage.script, run, [], ranks, **options)
    _, err = job.communicate()
    if job.returncode:
        return f"status {job.returncode}: {err[-300:]}"
    same = fingerprint(run, stage) == bench.reference("C real")
    shutil.rmtree(run)
    return "" if same else "another curve"


def locks(bench: Bench) -> Iterator[Case]:
    yield "two commands in one folder: the second is refused, the first not disturbed", lambda rng: two_commands(bench)


def two_commands(bench: Bench) -> str:
    """A second command in a folder in which one works."""
    stage = STAGES["C real"]
    run = bench.copy(stage, "case")
    first = bench.start(stage.script, run, [], stage.ranks)
    wait_for_lock(first, run)
    second = bench.start(stage.script, run, [], 0)
    _, err = second.communicate()
    _, first_err = first.communicate()
    if second.returncode != 2 or "is in use by" not in err or err.count("error: ") != 1:
        return f"status {second.returncode}: {err[-300:]}"
    fine = first.returncode == 0 and fingerprint(run, stage) == bench.reference("C real")
    return "" if fine else f"the first was disturbed: {first_err[-300:]}"
