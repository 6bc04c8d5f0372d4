"""Learning curves as they grow: TensorBoard's files in the run folder and, with --track, Weights & Biases."""

import argparse
import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from world_models.config import Config, UserError

PROJECT = "world-models"


def add_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--track", action="store_true", help="also send the curves to Weights & Biases (pip install wandb)"
    )


@contextlib.contextmanager
def track(wanted: bool, run: Path, config: Config, comm=None) -> Iterator[None]:
    """Sends what `Curves` writes inside of the block to Weights & Biases, grouped by run folder, a job a stage.

    Args:
        wanted: whether to, or to do nothing.
        comm: of several ranks only the first sends.

    Raises:
        UserError: if the package is not there.
    """
    if not wanted or (comm is not None and comm.rank):
        yield
        return
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise UserError("--track: Weights & Biases is not installed; install it with: pip install wandb") from None
    stage = Path(sys.argv[0]).stem
    settings = dict(project=PROJECT, group=run.resolve().name, job_type=stage, name=f"{run.resolve().name}-{stage}")
    with wandb.init(dir=str(run), config=dataclasses.asdict(config), **settings):
        yield


class Curves:
    """The curves of a model, by its name: "vae", "rnn" or "controller".

    Args:
        run: the run folder; gets tensorboard/NAME.
    """

    def __init__(self, run: Path, name: str):
        import tensorflow as tf

        self.name = name
        self.writer = tf.summary.create_file_writer(str(run / "tensorboard" / name))
        wandb = sys.modules.get("wandb")
        self.tracked = getattr(wandb, "run", None)
        if self.tracked is not None:
            self.tracked.define_metric(f"{name}/*", step_metric=f"{name}/step")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each curve."""
        import tensorflow as tf

        with self.writer.as_default(step):
            for key, value in values.items():
                tf.summary.scalar(key, value)
        if self.tracked is not None:
            self.tracked.log({f"{self.name}/step": step} | {f"{self.name}/{key}": v for key, v in values.items()})

    def close(self) -> None:
        self.writer.close()
