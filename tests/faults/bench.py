"""The stages of a small run as real commands in processes of their own, and what each must leave behind."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).parent.parent.parent
TOY = ROOT / "tests" / "toy_task.py"
MARK = "WORLD_MODELS_FAULT_CASE"  # an environment variable by which a case's processes are found
ENDS = 30.0  # seconds in which a job must be gone from every rank
SHARED_MEMORY = Path("/dev/shm")

SMALL_EVOLUTION = "--population 4 --rollouts 2 --generations 4 --eval-every 2 --eval-episodes 3 --lanes 4"
SMALL = f"--preset smoke --episodes 6 --vae-epochs 1 --rnn-steps 6 --rnn-batch 4 --rnn-length 40 {SMALL_EVOLUTION}"
SIZES = {
    "toy": "--preset smoke --heads end+reward --episodes 12 --rnn-steps 60 --generations 6",
    "carracing": f"{SMALL} --heads end+reward --max-frames 60 --vae-batch 60",
    "doom": f"{SMALL} --max-frames 150",
}


@dataclass(frozen=True)
class Stage:
    """A stage: its command, and which files it makes.

    Args:
        script: the command's script.
        flags: its flags, but --run.
        ranks: of mpirun; 0: one process.
        makes: files and folders of the run that it makes.
        later: those of the stages after it.
        base: which run it is tried in, "real" or "dream".
        through: the script that runs it as a child of rank 0, where the stage itself is one process; "": none.
    """

    script: str
    flags: str
    ranks: int
    makes: tuple[str, ...]
    later: tuple[str, ...] = ()
    base: str = "real"
    through: str = ""


TEST = ("results.json", "videos")
C = ("controller",)
M = ("rnn.weights.h5", "rnn.checkpoint.npz", "series", "series.npz", "initial_z.npz")
V = ("vae.weights.h5", "vae.checkpoint.npz", "pictures", "metrics.jsonl")
MODEL = ("vae.weights.h5", "pictures/reconstructions.png")  # a test writes pictures too
THROUGH = "--test-episodes 2"  # of the script that runs a stage as its child
STAGES = {
    "extract": Stage("extract.py", "", 2, ("record",), (*V, *M, *C, *TEST)),
    "V": Stage("train_vae.py", "", 0, MODEL, (*V, *M, *C, *TEST), through="train_all.py"),
    "M": Stage("train_rnn.py", "", 0, M, (*C, *TEST), through="train_all.py"),
    "C real": Stage("train_controller.py", "", 2, C, TEST),
    "C dream": Stage("train_controller.py", "", 2, C, TEST, "dream"),
    "evaluate": Stage("evaluate.py", "--episodes 4 --no-video", 2, TEST),
}


class Bench:
    """A folder in which stages are tried on copies of two complete runs, "real" and "dream"."""

    def __init__(self, folder: Path, task: str, mpirun: str, real: Path | None = None):
        self.folder, self.task, self.mpirun = folder, task, mpirun
        self.env = dict(os.environ)
        folder.mkdir(parents=True, exist_ok=True)
        self.bases = {"real": real or folder / "real", "dream": folder / "dream"}
        self.seconds: dict[str, float] = {}

    def make(self, more: str = "") -> None:
        """Makes the runs, with more flags for the first stage, and measures how long each stage works once it holds the
        run's lock. Does nothing if that was done before."""
        measured = self.folder / "seconds.json"
        if measured.exists():
            self.seconds = json.loads(measured.read_text())
            return
        own = {
            "extract": ["--task", self.task, *SIZES[self.task].split(), *more.split()],
            "C dream": ["--from", str(self.bases["real"]), "--env", "dream"],
        }
        for name, stage in STAGES.items():
            run = self.bases[stage.base]
            job = self.start(stage.script, run, [*stage.flags.split(), *own.get(name, [])], stage.ranks)
            started = wait_for_lock(job, run)
            out, err = job.communicate()
            if job.returncode:
                raise RuntimeError(f"{stage.script}: status {job.returncode}: {out}{err}")
            self.seconds[name] = time.monotonic() - started
        measured.write_text(json.dumps(self.seconds))

    def command(self, script: str, run: Path, flags: list[str], ranks: int) -> list[str]:
        words = ["--run", str(run), *flags]
        program = [str(ROOT / script), *words]
        if self.task == "toy":
            program = [str(TOY), json.dumps([[script, *words]])]
        return [*([self.mpirun, "-n", str(ranks)] if ranks else []), sys.executable, *program]

    def start(self, script: str, run: Path, flags: list[str], ranks: int, **options) -> subprocess.Popen:
        """Starts a command; its `case` is the mark of its processes."""
        case = uuid.uuid4().hex
        env = options.pop("env", self.env) | {MARK: case}
        # As from a terminal: what runs in the background, or under nohup, may have been started to ignore signals.
        usual = {"cwd": self.folder, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": hear}
        command = self.command(script, run, flags, ranks)
        job = subprocess.Popen(command, env=env, text=True, start_new_session=True, **usual | options)
        job.case = case
        return job

    def run(self, script: str, run: Path, flags: list[str], ranks: int, **options) -> subprocess.CompletedProcess:
        """Runs a command to its end; RuntimeError if it fails."""
        job = self.start(script, run, flags, ranks, **options)
        out, err = job.communicate()
        if job.returncode:
            raise RuntimeError(f"{script}: status {job.returncode}: {out}{err}")
        return subprocess.CompletedProcess(job.args, 0, out, err)

    def copy(self, stage: Stage, name: str) -> Path:
        """A run in which the stage is still to be done."""
        run = self.folder / name
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.bases[stage.base], run, symlinks=True)
        for made in (*stage.makes, *stage.later):
            path = run / made
            if path.is_symlink() or path.is_file():
                path.unlink()
            else:
                shutil.rmtree(path, ignore_errors=True)
        return run

    def half_trained(self, name: str, run: Path) -> None:
        """Leaves V's or M's checkpoint in `run`, as a training does that is told to end in its first step."""
        stage = STAGES[name]
        self.copy(stage, run.name)
        curves = run / "tensorboard"
        shutil.rmtree(curves, ignore_errors=True)
        job = self.start(stage.script, run, [], 0)
        wait_for_lock(job, run)
        while job.poll() is None and not curves.exists():
            time.sleep(0.01)  # begun when all is read, before the first step
        job.terminate()
        _, err = job.communicate()
        if not list(run.glob("*.checkpoint.npz")):
            shutil.rmtree(run)
            raise RuntimeError(f"{name} left no checkpoint: {err[-300:]}")

    def reference(self, name: str) -> str:
        """What a stage has left behind undisturbed, as `fingerprint`."""
        return fingerprint(self.bases[STAGES[name].base], STAGES[name])


def hear() -> None:
    """Undoes what this process's parents may have ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for_lock(job: subprocess.Popen, run: Path) -> float:
    """Waits until a command holds its run's lock, or has ended: before, its libraries are loaded and nothing is begun.
    Returns when that was."""
    lock = run / ".lock"
    while job.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            # One left by a killed command names a process that is gone.
            if json.loads(lock.read_text())["process"] in processes(job.case):
                break
        time.sleep(0.02)
    return time.monotonic()


def processes(case: str) -> dict[int, dict[str, str]]:
    """The living processes of a case, with their environment."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            env = (path / "environ").read_bytes().decode(errors="replace")
            state = (path / "stat").read_text().rpartition(") ")[2][0]
        except OSError:
            continue
        if f"{MARK}={case}\0" in env and state != "Z":
            found[int(path.name)] = dict(word.split("=", 1) for word in env.split("\0") if "=" in word)
    return found


def rank_process(case: str, rank: int) -> int | None:
    """The process of a rank; None if it is not there (yet)."""
    names = ("PMI_RANK", "OMPI_COMM_WORLD_RANK")
    for process, env in sorted(processes(case).items()):
        if any(env.get(name) == str(rank) for name in names):
            return process
    return None


def wait_until_gone(case: str, seconds: float = ENDS) -> bool:
    """Whether all processes of a case end in time."""
    deadline = time.monotonic() + seconds
    while processes(case):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def shared_memory(case: str) -> set[Path]:
    """The shared memory of MPI and of Doom's engine that a case's processes hold, as far as it has names."""
    found = set()
    for process in processes(case):
        with contextlib.suppress(OSError):  # ended meanwhile
            lines = Path(f"/proc/{process}/maps").read_text().splitlines()
            found |= {Path(line.split(maxsplit=5)[5]) for line in lines if f" {SHARED_MEMORY}/" in line}
    return {path for path in found if path.name.startswith(("mpich", "ViZDoom"))}


def unfinished(run: Path) -> list[str]:
    """Files of `storage.atomic_write` that were never renamed."""
    return [str(path.relative_to(run)) for path in run.rglob(".[0-9]*.tmp.*")]


def fingerprint(run: Path, stage: Stage) -> str:
    """A digest of what a stage has made, without clocks."""
    digest = hashlib.sha256()
    for path in sorted(files(run, stage)):
        digest.update(str(path.relative_to(run)).encode())
        for part in content(path):
            digest.update(part)
    return digest.hexdigest()


def files(run: Path, stage: Stage) -> Iterator[Path]:
    for name in stage.makes:
        path = run / name
        yield from path.rglob("*.*") if path.is_dir() else [path] if path.is_file() else []


def content(path: Path) -> Iterator[bytes]:
    """What a file says, without clocks and the frames of its format."""
    if path.name == "checkpoint.npz":
        return  # has a clock inside; history and best agent are compared
    if path.suffix == ".npz":
        with np.load(path) as file:
            for name in sorted(file.files):
                yield name.encode() + file[name].tobytes()
    elif path.suffix == ".h5":
        arrays = {}
        with h5py.File(path) as file:
            file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
            for name in sorted(arrays):
                yield name.encode() + arrays[name][()].tobytes()
    elif path.suffix == ".jsonl":
        for line in path.read_text().splitlines():
            values = json.loads(line)
            yield json.dumps({name: value for name, value in values.items() if name != "seconds"}).encode()
    elif path.name == "results.json":
        for row in json.loads(path.read_text())["results"]:
            yield json.dumps([row["returns"], row["seeds"]]).encode()
    else:
        yield path.read_bytes()
