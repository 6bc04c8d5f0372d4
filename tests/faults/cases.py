"""Damaged files, files that cannot be written, odd launches, two commands in a folder."""

import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench import (
    ROOT,
    STAGES,
    Bench,
    fingerprint,
    processes,
    wait_for_lock,
)
from interruptions import LOUD, Case, completed_as_promised

# What other runs than the bench's are made with; another task's are as they are.
OTHERS = {
    "another run's": "--seed 7",
    "another run's, same seed": "--min-frames 1 --kl-tolerance 0.4 --rnn-rate 0.002 --sigma 0.2",
}


# Which stage reads a file. A folder: its first file; a checkpoint of V or M: as one leaves it that is told to end.
READ_BY = {
    "config.json": "C real",
    "record": "V",
    "vae.checkpoint.npz": "V",
    "metrics.jsonl": "M",
    "vae.weights.h5": "C real",
    "series.npz": "M",
    "rnn.checkpoint.npz": "M",
    "rnn.weights.h5": "C real",
    "controller/checkpoint.npz": "C real",
    "controller/best.json": "evaluate",
    "initial_z.npz": "C dream",
    "results.json": "evaluate",
}


WAYS = ("empty", "half", "a byte short", "noise", "flipped bytes")


def damages(content: bytes, way: str, rng: random.Random) -> bytes:
    """A file's content, damaged in one of WAYS."""
    if way == "flipped bytes":
        flipped = bytearray(content)
        for _ in range(8):
            flipped[rng.randrange(len(content))] ^= 0xFF
        return bytes(flipped)
    short = {"empty": 0, "half": len(content) // 2, "a byte short": len(content) - 1}
    return rng.randbytes(len(content)) if way == "noise" else content[: short[way]]


def damage(bench: Bench, others: dict[str, Bench]) -> Iterator[Case]:
    """Each file damaged in each way, or replaced by that of another run (`others`, by name), then read by a stage."""
    for file, name in READ_BY.items():
        for way in (*WAYS, *others):
            yield f"{file}, {way}: {name}", lambda rng, case=(file, name, way): spoil(bench, *case, others, rng)


def with_file(bench: Bench, file: str, name: str) -> Path:
    """A run in which a stage is to be done that will read `file`."""
    stage = STAGES[name]
    if not file.endswith(".checkpoint.npz") or "/" in file:
        return bench.copy(stage, "case")
    half = bench.folder / f"half-trained {name}"
    if not half.exists():
        bench.half_trained(name, half)
    run = bench.folder / "case"
    shutil.rmtree(run, ignore_errors=True)
    return shutil.copytree(half, run, symlinks=True)


def spoil(bench: Bench, file: str, name: str, way: str, others: dict[str, Bench], rng: random.Random) -> str:
    """A case of `damage`."""
    file = "record/000001.npz" if file == "record" else file
    run = with_file(bench, file, name)
    source = others.get(way, bench)
    source.make(OTHERS.get(way, ""))
    held = source.bases[STAGES[name].base] / file
    if not held.exists():  # while it trains only
        held = (run if source is bench else with_file(source, file, name)) / file
    content = held.read_bytes()
    return read_by(bench, run, file, name, content if way in others else damages(content, way, rng))


def read_by(bench: Bench, run: Path, file: str, name: str, content: bytes) -> str:
    """Gives a stage a file with that content.

    Promised: one line that names the file, status 2, and nothing else in the folder changed; or the usual results.
    """
    stage = STAGES[name]
    (run / file).unlink(missing_ok=True)
    (run / file).parent.mkdir(parents=True, exist_ok=True)
    (run / file).write_bytes(content)
    before = state(run)
    job = bench.start(stage.script, run, stage.flags.split(), stage.ranks)
    _, err = job.communicate()
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    if job.returncode == 0:
        same = fingerprint(run, stage) == bench.reference(name)
        return "" if same else "was read without a word, and the results are others"
    if (job.returncode, len(said)) != (2, 1) or Path(file).name not in said[0] or LOUD in err:
        return f"status {job.returncode}: {err[-300:]}"
    after = state(run)
    changed = [path for path, held in before.items() if after.get(path) != held]
    return f"changed: {changed}" if changed else ""


def state(run: Path) -> dict[str, bytes]:
    """A run's files, but curves and the log of commands."""
    names = (path for path in run.rglob("*") if path.is_file() and not {"commands", "tensorboard"} & set(path.parts))
    return {str(path.relative_to(run)): path.read_bytes() for path in names if path.name != "metrics.jsonl"}


def disk(bench: Bench, names: list[str], sizes: tuple[int, ...]) -> Iterator[Case]:
    """Stages whose files may have only so many bytes: what is there stays, one line names the file; afterwards the same
    command without the limit goes on."""
    for name in names:
        for size in sizes:
            yield f"{name}: files of {size:,} bytes at most", lambda rng, case=(name, size): too_large(bench, *case)


def too_large(bench: Bench, name: str, size: int) -> str:
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
    after = state(run)
    changed = [path for path, held in before.items() if after.get(path) != held]
    if changed or LOUD in err or (job.returncode and (job.returncode, len(said)) != (2, 1)):
        return f"status {job.returncode}, changed {changed}: {err[-300:]}"
    if said and str(run) not in said[0]:
        return f"no file is named: {said[0]}"
    return completed_as_promised(bench, name, run)


OVERSUBSCRIBE = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_ALLOW_RUN_AS_ROOT": "1"}
OVERSUBSCRIBE |= {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def launches(bench: Bench, openmpi: str | None) -> Iterator[Case]:
    """Odd ways to launch the evolution, which must all give the usual curve."""
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
        own = bench.env | OVERSUBSCRIBE
        odd |= {
            "Open MPI": {"mpirun": openmpi, "env": own},
            "Open MPI, 5 ranks": {"mpirun": openmpi, "ranks": 5, "env": own},
        }
    for title, how in odd.items():
        yield f"launch: {title}", lambda rng, how=how: launch(bench, **how)


def launch(bench: Bench, name="case", mpirun=None, ranks: int | None = None, stdout=None, **options) -> str:
    stage = STAGES["C real"]
    run = bench.copy(stage, name)
    usual, bench.mpirun = bench.mpirun, mpirun or bench.mpirun
    try:
        with open(stdout or os.devnull, "w") as out:
            ranks = stage.ranks if ranks is None else ranks
            job = bench.start(stage.script, run, [], ranks, stdout=out, **options)
            _, err = job.communicate()
    finally:
        bench.mpirun = usual
    # MPICH's mpirun itself fails where it cannot print; by then everything is saved.
    same = fingerprint(run, stage) == bench.reference("C real")
    shutil.rmtree(run)
    if job.returncode and not stdout:
        return f"status {job.returncode}: {err[-300:]}"
    return "" if same else "another curve"


def locks(bench: Bench) -> Iterator[Case]:
    yield "two commands in one folder: the second is refused, the first not disturbed", lambda rng: two_commands(bench)
    yield "read-only code and no home: CarRacing", lambda rng: read_only(bench)
    for way in ("empty", "half", "a byte short", "noise"):
        yield f"cache of the compiled drawing, {way}: CarRacing", lambda rng, way=way: damaged_cache(bench, way, rng)


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


DRAW = "from tasks.carracing_env import CarRacing; print(CarRacing().reset(seed=1)[0].sum())"


def damaged_cache(bench: Bench, way: str, rng: random.Random) -> str:
    """numba's files of machine code, spoilt: the drawing is compiled again."""
    folder = bench.folder / "numba"
    shutil.rmtree(folder, ignore_errors=True)
    draw = partial(subprocess.run, [sys.executable, "-c", DRAW], cwd=ROOT, capture_output=True, text=True)
    env = bench.env | {"NUMBA_CACHE_DIR": str(folder)}
    before = draw(env=env)
    kept = [path for path in folder.rglob("*") if path.is_file()]
    if before.returncode or not kept:
        return f"nothing was kept: {before.stderr[-300:]}"
    for path in kept:
        path.write_bytes(damages(path.read_bytes(), way, rng))
    after = draw(env=env)
    return "" if after.stdout == before.stdout else f"{after.stdout}, not {before.stdout}: {after.stderr[-300:]}"


def read_only(bench: Bench) -> str:
    """Code that cannot be written and no home: drawing is compiled without a cache."""
    env = {key: value for key, value in bench.env.items() if key not in ("HOME", "NUMBA_CACHE_DIR")}
    env |= {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    copy = bench.folder / "read-only"
    shutil.rmtree(copy, ignore_errors=True)
    ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", "pretrained", "runs")
    shutil.copytree(ROOT, copy, ignore=ignored)
    folders = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    # Root may write everywhere, but without its capabilities.
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 else []
    command = [*bare, sys.executable, "-c"]
    tried = "from pathlib import Path; Path('written').touch()"
    if not subprocess.run([*command, tried], cwd=copy, capture_output=True).returncode:
        return "the folder can be written: nothing was tried"
    done = subprocess.run([*command, DRAW], cwd=copy, env=env, capture_output=True, text=True)
    for folder in folders:
        folder.chmod(0o755)
    return "" if done.stdout.strip().isdigit() else done.stderr[-300:]
