"""The cases: kills, signals, damaged files, files that cannot be written, odd launches.

Each yields (name, what was not as promised; "" if nothing)."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import (
    ENDS,
    STAGES,
    Bench,
    Stage,
    fingerprint,
    left_in_memory,
    processes,
    rank_process,
    unfinished,
    wait_until_gone,
)

Case = tuple[str, str]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
LOUD = "Traceback (most recent call last)"


def targets(stage: Stage) -> tuple[str, ...]:
    return ("worker", "rank 0", "mpirun") if stage.ranks else ("process",)


def target_process(job: subprocess.Popen, target: str) -> int | None:
    """The number of the process to be killed; None if it has not started."""
    if target in ("mpirun", "process"):
        return job.pid
    return rank_process(job.case, 0 if target == "rank 0" else 1)


def interrupt(bench: Bench, name: str, target: str, number: int, moment: float) -> Case:
    """Sends a signal to a stage at a moment, 0..1 of its usual time; then gives the same command again."""
    stage, expected = STAGES[name], bench.reference(name)
    title = f"{name}: {signal.Signals(number).name} to {target} at {moment:.0%}"
    run = bench.copy(stage, "case")
    memory = left_in_memory()
    job = bench.start(stage.script, run, stage.flags.split(), stage.ranks)
    time.sleep(moment * bench.seconds.get(name, 10))
    process = target_process(job, target)
    if process is not None and job.poll() is None:
        os.kill(process, number)
    started = time.monotonic()
    try:
        _, err = job.communicate(timeout=20 * ENDS)
    except subprocess.TimeoutExpired:
        for stray in processes(job.case):
            os.kill(stray, signal.SIGKILL)
        return title, "the job did not end"
    ended = time.monotonic() - started
    if not wait_until_gone(job.case):
        return title, f"processes are left: {sorted(processes(job.case))}"
    if number != signal.SIGKILL:
        # Before Python has come to the stage, the signal ends it as it ends every program.
        usual = (0, 128 + number, -number)
        if job.returncode not in usual or (LOUD in err and "KeyboardInterrupt" not in err):
            return title, f"status {job.returncode}: {err[-300:]}"
        if ended > ENDS and job.returncode:
            return title, f"it took {ended:.0f} s to end"
    try:
        bench.run(stage.script, run, stage.flags.split(), stage.ranks)
    except RuntimeError as error:
        return title, f"the same command failed: {error}"
    if fingerprint(run, stage) != expected:
        return title, "the same command gave other results"
    if litter := unfinished(run) or sorted(left_in_memory() - memory):
        return title, f"left behind: {litter}"
    return title, ""


def kills(bench: Bench, names: list[str], count: int, rng: random.Random) -> Iterator[Case]:
    """`count` SIGKILLs at random moments for each stage and target."""
    for name in names:
        for target in targets(STAGES[name]):
            for _ in range(count):
                yield interrupt(bench, name, target, signal.SIGKILL, rng.uniform(0.05, 1))


def signals(bench: Bench, names: list[str], count: int, rng: random.Random) -> Iterator[Case]:
    """`count` of each signal at random moments for each stage and target."""
    for name in names:
        for target in targets(STAGES[name]):
            for number in SIGNALS:
                for _ in range(count):
                    yield interrupt(bench, name, target, number, rng.uniform(0.05, 1))


# Which stage reads a file, and what it makes of it.
READ_BY = {
    "config.json": "C real",
    "record/000001.npz": "V",
    "vae.weights.h5": "C real",
    "series.npz": "M",
    "rnn.weights.h5": "C real",
    "controller/checkpoint.npz": "C real",
    "controller/best.json": "evaluate",
    "initial_z.npz": "C dream",
    "results.json": "evaluate",
}


def damages(content: bytes, rng: random.Random) -> dict[str, bytes]:
    """A file's content, damaged in each way."""
    flipped = bytearray(content)
    for _ in range(8):
        flipped[rng.randrange(len(content))] ^= 0xFF
    return {
        "empty": b"",
        "half": content[: len(content) // 2],
        "a byte short": content[:-1],
        "noise": rng.randbytes(len(content)),
        "flipped bytes": bytes(flipped),
    }


def damage(bench: Bench, rng: random.Random, others: dict[str, Path]) -> Iterator[Case]:
    """Each file damaged in each way, or replaced by that of another run (`others`, by name), then read by a stage.

    Promised: one line that names the file, status 2, and nothing else in the folder changed; or the usual results.
    """
    for file, name in READ_BY.items():
        stage, expected = STAGES[name], bench.reference(name)
        original = bench.bases[stage.base] / file
        ways = damages(original.read_bytes(), rng)
        ways |= {f"{other}'s": (path / file).read_bytes() for other, path in others.items() if (path / file).exists()}
        for way, content in ways.items():
            title = f"{file}, {way}: {name}"
            run = bench.copy(stage, "case")
            (run / file).unlink(missing_ok=True)
            (run / file).parent.mkdir(parents=True, exist_ok=True)
            (run / file).write_bytes(content)
            before = state(run)
            job = bench.start(stage.script, run, stage.flags.split(), stage.ranks)
            _, err = job.communicate()
            said = [line for line in err.splitlines() if line.startswith("error: ")]
            if job.returncode == 0:
                same = fingerprint(run, stage) == expected
                yield title, "" if same else "was read without a word, and the results are others"
            elif (job.returncode, len(said)) != (2, 1) or Path(file).name not in said[0] or LOUD in err:
                yield title, f"status {job.returncode}: {err[-300:]}"
            else:
                changed = [path for path, held in before.items() if state(run).get(path) != held]
                yield title, f"changed: {changed}" if changed else ""


def state(run: Path) -> dict[str, bytes]:
    """A run's files, but curves and the log of commands."""
    names = (path for path in run.rglob("*") if path.is_file() and not {"commands", "tensorboard"} & set(path.parts))
    return {str(path.relative_to(run)): path.read_bytes() for path in names if path.name != "metrics.jsonl"}


def disk(bench: Bench, names: list[str], sizes: tuple[int, ...]) -> Iterator[Case]:
    """Stages whose files may have only so many bytes: what is there stays, one line names the file; afterwards the same
    command without the limit goes on."""
    for name in names:
        stage, expected = STAGES[name], bench.reference(name)
        for size in sizes:
            title = f"{name}: files of {size:,} bytes at most"
            run = bench.copy(stage, "case")
            before = state(run)

            def limit(size=size) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

            # Inherited by every rank on this machine.
            job = bench.start(stage.script, run, stage.flags.split(), stage.ranks, preexec_fn=limit)
            _, err = job.communicate()
            said = [line for line in err.splitlines() if line.startswith("error: ")]
            changed = [path for path, held in before.items() if state(run).get(path) != held]
            if changed or LOUD in err or (job.returncode and (job.returncode, len(said)) != (2, 1)):
                yield title, f"status {job.returncode}, changed {changed}: {err[-300:]}"
                continue
            try:
                bench.run(stage.script, run, stage.flags.split(), stage.ranks)
            except RuntimeError as error:
                yield title, f"the same command failed: {error}"
                continue
            yield title, "" if fingerprint(run, stage) == expected else "the results are others"


def launches(bench: Bench, openmpi: str | None) -> Iterator[Case]:
    """Odd ways to launch the evolution, which must all give the usual curve."""
    name = "C real"
    stage, expected = STAGES[name], bench.reference(name)
    nowhere = {key: value for key, value in bench.env.items() if key != "HOME"}
    odd = {
        "5 ranks": {"ranks": 5},
        "more ranks than episodes": {"ranks": 12},
        "one process without mpirun": {"ranks": 0},
        "no HOME": {"env": nowhere},
        "from another directory": {"cwd": "/"},
        "a folder with spaces and umlauts": {"name": "a run, übermäßig long"},
        "output to a full disk": {"stdout": "/dev/full"},
        "LANG=C and latin-1": {"env": bench.env | {"LANG": "C", "PYTHONIOENCODING": "latin-1"}},
    }
    if openmpi:
        odd |= {
            "Open MPI": {"mpirun": openmpi},
            "Open MPI, 3 ranks on fewer cores": {"mpirun": openmpi, "ranks": 3, "env": bench.env | OVERSUBSCRIBE},
        }
    for title, how in odd.items():
        run = bench.copy(stage, how.get("name", "case"))
        usual, bench.mpirun = bench.mpirun, how.get("mpirun", bench.mpirun)
        options = {key: how[key] for key in ("env", "cwd") if key in how}
        if "stdout" in how:
            options["stdout"] = os.open(how["stdout"], os.O_WRONLY)
        job = bench.start(stage.script, run, [], how.get("ranks", stage.ranks), **options)
        _, err = job.communicate()
        bench.mpirun = usual
        if "stdout" in options:
            os.close(options["stdout"])
        if job.returncode:
            yield f"launch: {title}", f"status {job.returncode}: {err[-300:]}"
        else:
            same = fingerprint(run, stage) == expected
            yield f"launch: {title}", "" if same else "another curve"
        if run.name != "case":
            shutil.rmtree(run)


OVERSUBSCRIBE = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_ALLOW_RUN_AS_ROOT": "1"}
OVERSUBSCRIBE |= {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def two_commands(bench: Bench) -> Iterator[Case]:
    """A second command in a folder in which one works."""
    stage, expected = STAGES["C real"], bench.reference("C real")
    run = bench.copy(stage, "case")
    first = bench.start(stage.script, run, [], stage.ranks)
    while not (run / ".lock").exists() and first.poll() is None:
        time.sleep(0.05)
    second = bench.start(stage.script, run, [], 0)
    _, err = second.communicate()
    _, first_err = first.communicate()
    refused = second.returncode == 2 and "is in use by" in err and err.count("error: ") == 1
    yield "two commands in one folder: the second is refused", "" if refused else err[-300:]
    fine = first.returncode == 0 and fingerprint(run, stage) == expected
    yield "two commands in one folder: the first is not disturbed", "" if fine else first_err[-300:]


def read_only(bench: Bench) -> Iterator[Case]:
    """Code that cannot be written and no home: drawing is compiled without a cache. As another user: root may write."""
    code = "from tasks.carracing_env import CarRacing; print(CarRacing().reset(seed=1)[0].shape)"
    env = {key: value for key, value in bench.env.items() if key not in ("HOME", "NUMBA_CACHE_DIR")}
    env |= {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    copy = bench.folder / "read-only"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(
        Path(__file__).parent.parent.parent,
        copy,
        ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", "pretrained", "runs"),
    )
    options = {"user": 65534} if os.getuid() == 0 else {}
    if not options:
        os.chmod(copy / "tasks", 0o555)
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, env=env, capture_output=True, text=True, **options)
    os.chmod(copy / "tasks", 0o755)
    yield "read-only code and no home: CarRacing", "" if "(64, 64, 3)" in done.stdout else done.stderr[-300:]
