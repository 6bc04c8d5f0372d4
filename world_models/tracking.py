"""Learning curves as they grow: TensorBoard's files in the run folder and, with --track, Weights & Biases."""

import argparse
import contextlib
import dataclasses
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from world_models.config import UserError
from world_models.mpi import Comm
from world_models.runs.run import Run

PROJECT = "world-models"


def add_flag(parser: argparse.ArgumentParser) -> None:
    text = "also send the curves to Weights & Biases (pip install wandb)"
    parser.add_argument("--track", action="store_true", help=text)


@contextlib.contextmanager
def track(wanted: bool, run: Run, comm: Comm | None = None) -> Iterator[None]:
    """Context manager that sends what `Curves` writes to Weights & Biases, if it is `wanted`, grouped by run folder, a
    job for each stage. Of several ranks only the first sends. UserError if the package is not installed, or does not
    let the user in."""
    if not wanted or (comm is not None and comm.rank):
        yield
        return
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise UserError("--track: Weights & Biases is not installed; install it with: pip install wandb") from None
    stage, group = Path(sys.argv[0]).stem, run.path.resolve().name
    settings = dict(project=PROJECT, group=group, job_type=stage, name=f"{group}-{stage}")
    try:
        job = wandb.init(dir=str(run), config=dataclasses.asdict(run.config), **settings)
    except wandb.errors.Error as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"--track: Weights & Biases refuses ({first}); log in with: wandb login") from None
    with job:
        yield


class Curves:
    """The curves of a model or of a search ("vae", "rnn", "controller" or "curious") in tensorboard/NAME. `done` is the
    last step that a resumed training keeps. TensorBoard drops the points after it."""

    def __init__(self, run: Run, name: str, done: int = 0):
        self.name, self.writer = name, EventFileWriter(str(run / "tensorboard" / name))
        if done:
            session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self.writer.add_event(event_pb2.Event(wall_time=time.time(), step=done + 1, session_log=session))
        wandb = sys.modules.get("wandb")
        self.tracked = getattr(wandb, "run", None)
        if self.tracked is not None:
            self.tracked.define_metric(f"{name}/*", step_metric=f"{name}/step")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each curve."""
        points = [summary_pb2.Summary.Value(tag=key, simple_value=value) for key, value in values.items()]
        summary = summary_pb2.Summary(value=points)
        self.writer.add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))
        self.writer.flush()
        if self.tracked is not None:
            self.tracked.log({f"{self.name}/step": step} | {f"{self.name}/{key}": v for key, v in values.items()})

    def close(self) -> None:
        self.writer.close()
