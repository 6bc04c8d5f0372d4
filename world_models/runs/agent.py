"""The kept agent of a search: best.json."""

import numpy as np

from world_models.config import UserError
from world_models.runs import files
from world_models.runs.arrays import reading, require_finite
from world_models.runs.artifacts import ARTIFACTS, SEARCHES
from world_models.runs.manifest import digest_of
from world_models.runs.run import Run


def digest(parameters: list[float]) -> str:
    """The digest that tells an agent from others."""
    return digest_of({"parameters": parameters})


def read_best(run: Run, size: int, objective: str = "return") -> dict:
    """The agent that a run has evolved for the objective, "return" or "surprise": `parameters`, `score`, and
    `generation`, which is None for an imported agent.

    UserError if there is none, it was modified, it has another number of parameters than `size`, or it was evolved with
    another V or M.
    """
    name = f"{SEARCHES[objective]}/best.json"
    path = run.need(name)
    with reading(path, "does not hold an agent", f"make it with: {ARTIFACTS[name].command(run.path)}"):
        best = files.read_json(path)
        found = len(best["parameters"])
        if not all(map(files.is_number, (*best["parameters"], best["score"]))):
            raise ValueError("parameters or score are not numeric")
        if not files.optional(files.is_count)(best["generation"]):
            raise ValueError(f"generation {best['generation']!r}: expected an integer")
    with np.errstate(over="ignore"):  # the lanes hold float32, in which a too large number is infinite
        require_finite(path, {name: np.array(best[name]).astype(np.float32) for name in ("parameters", "score")})
    if found != size:
        held = f"{path} holds {found} parameters; this run's controller has {size}"
        raise UserError(f"{held}; evolve one in a new run with: python train_controller.py --run NEW --from {run}")
    return best
