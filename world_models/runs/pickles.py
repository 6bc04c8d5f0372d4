"""Pickles of admitted classes only: reading one runs no other code."""

import io
import pickle
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

# What may be named: the classes and functions in the pickle of pycma's search, by module.
ADMITTED = {
    "builtins": {"range"},
    "cma.boundary_handler": {"BoundNone"},
    "cma.evolution_strategy": {"CMAEvolutionStrategy", "_CMAStopDict", "_StopTolXStagnation", "_pass"}
    | {"_CMASolutionDict_empty", "_CMASolutionDict_functional"},
    "cma.optimization_tools": {"BestSolution"},
    "cma.options_parameters": {"CMAParameters"},
    "cma.recombination_weights": {"RecombinationWeights"},
    "cma.sampler": {"GaussFullSampler", "GaussStandardConstant"},
    "cma.sigma_adaptation": {"CMAAdaptSigmaCSA"},
    "cma.transformations": {"DiagonalDecoding", "GenoPheno", "RoundIntegerVariables"},
    "cma.utilities.utils": {"BlancClass", "ElapsedWCTime", "MoreToWrite", "SolutionDict"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.linalg": {"eigh"},
}


def dump(item: object, own: Mapping[str, object]) -> np.ndarray:
    """The pickle of `item` as uint8 (N,), without the objects in `own`, whose names stand for them."""
    names, memory = {id(part): name for name, part in own.items()}, io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, part: object) -> str | None:
            return names.get(id(part))

    Pickler(memory, protocol=5).dump(item)
    return np.frombuffer(memory.getvalue(), np.uint8)


def load(content: np.ndarray, own: Mapping[str, object]) -> Any:
    """What `dump` has pickled, with the objects in `own` back in their places. UnpicklingError if it names a class or
    function that is not in ADMITTED."""

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, name: str) -> object:
            return own[name]

        def find_class(self, module: str, name: str) -> object:
            if name not in ADMITTED.get(module, ()):
                raise pickle.UnpicklingError(f"it names {module}.{name}, which is not admitted")
            found = super().find_class(module, name)
            foreign = module.partition(".")[0] not in ("builtins", "numpy")
            return without_init(found) if foreign and isinstance(found, type) else found

    return Unpickler(io.BytesIO(content.tobytes())).load()


@cache
def without_init(kind: type) -> type:
    """A class that makes empty instances of `kind`. No constructor runs, since one may evaluate its arguments as
    code."""
    made: Any = kind.__new__  # mypy takes it for that of `type`
    return type(kind.__name__, (kind,), {"__new__": lambda cls, *args, **options: made(kind)})
