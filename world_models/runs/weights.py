"""Weights of V and M in Keras' HDF5 files. They are read and written in memory: HDF5's own file locking fails on some
file systems, and on a full disk HDF5 ends the process with a segmentation fault."""

import io
from typing import Any

import numpy as np

from world_models.runs.arrays import reading, require_finite
from world_models.runs.artifacts import ARTIFACTS
from world_models.runs.run import Run


class Memory(io.BytesIO):
    """A file in memory. Keras asks for a name with this ending."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def named(variables: list) -> dict[str, np.ndarray]:
    """The values of variables, by name."""
    return {getattr(variable, "path", variable.name): np.asarray(variable) for variable in variables}


def save(model: Any, run: Run, name: str, **more: Any) -> None:
    """Writes a model's weights into a run; `more` as in `Run.write`. UserError if they are not finite."""
    require_finite(run / name, named(model.variables))
    memory = Memory()
    model.save_weights(memory)
    with run.write(name, **more) as tmp:
        tmp.write_bytes(memory.getvalue())


def load(model: Any, run: Run, name: str, expected: str) -> None:
    """Fills a built Keras model from a run's weights.

    UserError as in `Run.need`; if the file is damaged, or its arrays do not fit the model, which says what was
    `expected`; if a number is NaN or infinite.
    """
    path = run.need(name)
    fault = f"does not hold {expected} of {model.count_params():,} numbers"
    with reading(path, fault, f"move it away, and make it with: {ARTIFACTS[name].command(run.path)}"):
        model.load_weights(Memory(path.read_bytes()))
    require_finite(path, named(model.variables))
