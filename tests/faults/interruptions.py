"""Kills and signals, and what must come after them."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import (
    ENDS,
    STAGES,
    THROUGH,
    Bench,
    Stage,
    files,
    fingerprint,
    processes,
    rank_process,
    shared_memory,
    unfinished,
    wait_for_lock,
    wait_until_gone,
)

# A case's name, and what tries it: it returns what was not as promised, "" if nothing.
Case = tuple[str, Callable[[random.Random], str]]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
LOUD = "Traceback (most recent call last)"


def targets(stage: Stage) -> tuple[str, ...]:
    """What is killed: a rank of the stage, or its launcher; of a stage of one process itself, and each of those under
    which it runs as a child."""
    return ("process",) * (not stage.ranks) + ("worker", "rank 0", "mpirun")


def target_process(job: subprocess.Popen, target: str) -> int | None:
    """The number of the process to be killed; None if it has not started."""
    if target in ("mpirun", "process"):
        return job.pid
    return rank_process(job.case, 0 if target == "rank 0" else 1)


def begin(bench: Bench, stage: Stage, target: str, run: Path) -> subprocess.Popen:
    """Starts a stage so that there is a target."""
    if stage.ranks or target == "process":
        return bench.start(stage.script, run, stage.flags.split(), stage.ranks)
    return bench.start(stage.through, run, THROUGH.split(), 2)


def is_complete(run: Path, stage: Stage, whole: Path) -> bool:
    """Whether all that a stage makes is there, as in the complete run `whole`."""
    made = [path.relative_to(whole) for path in files(whole, stage)]
    return all((run / path).exists() for path in made) and not list(run.glob("*.checkpoint.npz"))


def interrupt(
    bench: Bench, name: str, target: str, number: int, rng: random.Random, last: bool = True, after: str = ""
) -> str:
    """Sends a signal to a stage at a random moment of its work, or as soon as it has made the file `after`; with `last`
    gives the same command again, to the end.

    The run is the one that the case before has left unfinished, if it was of the same stage: killed again and again.
    """
    stage = STAGES[name]
    run = bench.folder / f"case {name}, {target}"
    for attempt in range(10):
        if not run.exists():
            bench.copy(stage, run.name)
        job = begin(bench, stage, target, run)
        wait_for_lock(job, run)
        while after and not (run / after).exists() and job.poll() is None:
            time.sleep(0.01)
        if not after:  # sooner, if the stage was faster than when it was timed
            time.sleep(rng.uniform(0, 0.9) * bench.seconds.get(name, 3) / (1 + attempt))
        process = target_process(job, target)
        memory = shared_memory(job.case)
        hit = process is not None and job.poll() is None
        if hit:
            os.kill(process, number)
        if fault := ended_as_promised(job, number, hit):
            shutil.rmtree(run)
            return fault
        if litter := sorted(str(path) for path in memory if path.exists()):
            return f"left behind: {litter}"
        whole = is_complete(run, stage, bench.bases[stage.base])
        if (whole or (last and hit)) and (fault := completed_as_promised(bench, name, run)):
            return fault
        if hit:
            return ""
    return "it ended before every signal"


def ended_as_promised(job: subprocess.Popen, number: int, hit: bool) -> str:
    """Waits for the end of a job that a signal was sent to (`hit`); what was wrong with it."""
    started = time.monotonic()
    try:
        _, err = job.communicate(timeout=4 * ENDS)
    except subprocess.TimeoutExpired:
        for stray in processes(job.case):
            os.kill(stray, signal.SIGKILL)
        return "the job did not end"
    ended = time.monotonic() - started
    if not wait_until_gone(job.case):
        left = sorted(processes(job.case))
        for stray in left:
            os.kill(stray, signal.SIGKILL)
        return f"processes are left: {left}"
    if not hit:
        return "" if job.returncode == 0 else f"status {job.returncode}: {err[-300:]}"
    if number == signal.SIGKILL:
        return ""
    said = [line for line in err.splitlines() if line.startswith("stopped by ")]
    # A signal after the last step changes nothing.
    if LOUD in err or (job.returncode and (job.returncode, len(said)) != (128 + number, 1)):
        return f"status {job.returncode}, expected {128 + number} and one line: {err[-300:]}"
    return f"it took {ended:.0f} s to end" if ended > ENDS and job.returncode else ""


def completed_as_promised(bench: Bench, name: str, run: Path) -> str:
    """Gives the same command again, to the end; what was wrong. Removes the run."""
    stage = STAGES[name]
    try:
        bench.run(stage.script, run, stage.flags.split(), stage.ranks)
        if fingerprint(run, stage) != bench.reference(name):
            return "the same command gave other results"
        litter = unfinished(run)
        return f"left behind: {litter}" if litter else ""
    except RuntimeError as error:
        return f"the same command failed: {error}"
    finally:
        shutil.rmtree(run)


def kills(bench: Bench, names: list[str], count: int, numbers: tuple[int, ...] = (signal.SIGKILL,)) -> Iterator[Case]:
    """`count` signals of each kind, by default SIGKILL, at random moments for each stage and target."""
    for name in names:
        for target in targets(STAGES[name]):
            hard = {signal.SIGHUP} if target == "mpirun" else set()  # ends MPICH's mpirun itself
            rest = [(number, k) for k in range(1, count + 1) for number in numbers if number not in hard]
            for number, k in rest:
                title = f"{name}: {signal.Signals(number).name} to {target}, {k} of {count}"
                last = (number, k) == rest[-1]
                yield title, lambda rng, way=(name, target, number), last=last: interrupt(bench, *way, rng, last)


def signals(bench: Bench, names: list[str], count: int) -> Iterator[Case]:
    """`count` of each signal that a stage answers."""
    yield from kills(bench, names, count, SIGNALS)
