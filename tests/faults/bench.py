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

ROOT = Path(__file__).parent.parent.parent
TOY = ROOT / "tests" / "toy_task.py"
STAGE = ROOT / "tests" / "faults" / "stage.py"
MARK = "WORLD_MODELS_FAULT_CASE"  # an environment variable by which a case's processes are found

SMALL_SEARCH = "--population 4 --rollouts 2 --generations 4 --eval-every 2 --eval-episodes 3 --lanes 4"
SMALL = f"--preset smoke --episodes 6 --vae-epochs 1 --rnn-steps 6 --rnn-batch 4 --rnn-length 40 {SMALL_SEARCH}"
SIZES = {
    "toy": "--preset smoke --heads end+reward --episodes 12 --rnn-steps 60 --generations 6",
    "carracing": f"{SMALL} --heads end+reward --max-frames 60 --vae-batch 60",
    "doom": f"{SMALL} --max-frames 150",
}


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        script: its script.
        flags: its flags without --run.
        ranks: of mpirun; 0: one process.
        makes: files and folders of the run that it makes.
        begun: the file or folder that exists when a part of its work is saved.
        later: what the stages after it make.
        base: the run in which it is tried, "real" or "dream".
    """

    script: str
    flags: str
    ranks: int
    makes: tuple[str, ...]
    begun: str
    later: tuple[str, ...] = ()
    base: str = "real"


TEST = ("results.json", "results.partial", "videos")
C = ("controller",)
M = ("rnn.weights.h5", "rnn.checkpoint.npz", "series", "series.npz", "initial_z.npz")
V = ("vae.weights.h5", "vae.checkpoint.npz", "pictures", "metrics.jsonl")
STAGES = {
    "extract": Stage("extract.py", "", 2, ("record",), "record/000001.npz", (*V, *M, *C, *TEST)),
    "V": Stage("train_vae.py", "", 0, V[:2], "vae.checkpoint.npz", (*V, *M, *C, *TEST)),
    "M": Stage("train_rnn.py", "", 0, M, "rnn.checkpoint.npz", (*C, *TEST)),
    "C real": Stage("train_controller.py", "", 2, C, "controller/history.jsonl", TEST),
    "C dream": Stage("train_controller.py", "", 2, C, "controller/history.jsonl", TEST, "dream"),
    "evaluate": Stage("evaluate.py", "--episodes 12 --no-video", 2, TEST, "results.partial"),
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
        """Makes the runs, with more flags for the first stage, and measures how long each stage holds the lock. Does
        nothing if that was done before."""
        measured = self.folder / "seconds.json"
        if measured.exists():
            self.seconds = json.loads(measured.read_text(encoding="utf-8"))
            return
        own = {
            "extract": ["--task", self.task, *SIZES[self.task].split(), *more.split()],
            "C dream": ["--from", str(self.bases["real"]), "--play-in", "dream"],
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
        words = [script, "--run", str(run), *flags]
        program = [TOY, json.dumps([words])] if self.task == "toy" else [STAGE, *words]
        return [*([self.mpirun, "-n", str(ranks)] if ranks else []), sys.executable, *map(str, program)]

    def start(self, script: str, run: Path, flags: list[str], ranks: int, **options) -> subprocess.Popen:
        """Starts a command; its `case` is the mark of its processes."""
        case = uuid.uuid4().hex
        env = options.pop("env", self.env) | {MARK: case}
        usual = {"cwd": self.folder, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": listen}
        command = self.command(script, run, flags, ranks)
        usual |= {"encoding": "utf-8", "errors": "replace"}  # a case may print in latin-1
        job = subprocess.Popen(command, env=env, start_new_session=True, **usual | options)
        job.case = case
        return job

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

    def reference(self, name: str) -> str:
        """What a stage has left behind undisturbed, as `fingerprint`."""
        return fingerprint(self.bases[STAGES[name].base], STAGES[name])


def listen() -> None:
    """Undoes what this process's parents may have ignored, such as a shell for what runs in the background."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for_lock(job: subprocess.Popen, run: Path) -> float:
    """Waits until a command holds its run's lock, or has ended. Returns when that was."""
    while job.poll() is None:
        with contextlib.suppress(OSError):
            # A lock file that a killed command left names a process that has ended.
            text = (run / ".lock").read_text(encoding="utf-8")
            if any(f"(process {process} on " in text for process in processes(job.case)):
                break
        time.sleep(0.02)
    return time.monotonic()


def processes(case: str) -> dict[int, dict[str, str]]:
    """The living processes of a case, with their environment."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            env = (path / "environ").read_bytes().decode(errors="replace")
            state = (path / "stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
        except OSError:
            continue
        if f"{MARK}={case}\0" in env and state != "Z":
            found[int(path.name)] = dict(word.split("=", 1) for word in env.split("\0") if "=" in word)
    return found


def rank_process(case: str, rank: int) -> int | None:
    """The process of a rank; None if it has not started or has ended."""
    names = ("PMI_RANK", "OMPI_COMM_WORLD_RANK")
    found = (process for process, env in sorted(processes(case).items()) if str(rank) in map(env.get, names))
    return next(found, None)


def shared_memory(case: str) -> set[Path]:
    """The shared memory of MPI and of Doom's engine that a case's processes hold, as far as it has names."""
    found = set()
    for process in processes(case):
        with contextlib.suppress(OSError):  # it has ended
            lines = Path(f"/proc/{process}/maps").read_text(encoding="utf-8").splitlines()
            found |= {Path(line.split(maxsplit=5)[5]) for line in lines if " /dev/shm/" in line}
    return {path for path in found if path.name.startswith(("mpich", "ViZDoom"))}


def fingerprint(run: Path, stage: Stage) -> str:
    """A digest of what a stage has made, without clocks."""
    digest = hashlib.sha256()
    for path in sorted(files(run, stage)):
        digest.update(str(path.relative_to(run)).encode())
        digest.update(content(path))
    return digest.hexdigest()


def files(run: Path, stage: Stage) -> Iterator[Path]:
    for name in stage.makes:
        path = run / name
        yield from path.rglob("*.*") if path.is_dir() else [path] if path.is_file() else []


def content(path: Path) -> bytes:
    """What a file holds, without clocks."""
    if path.name == "checkpoint.npz":
        return b""  # it has a clock; the history and the best agent are compared
    if path.suffix == ".jsonl":
        lines = [json.loads(line) | {"seconds": 0} for line in path.read_text(encoding="utf-8").splitlines()]
        return json.dumps(lines).encode()
    if path.name == "results.json":
        rows = json.loads(path.read_text(encoding="utf-8"))["results"]
        return json.dumps([[row["returns"], row["seeds"]] for row in rows]).encode()
    return path.read_bytes()
