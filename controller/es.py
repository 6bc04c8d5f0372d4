"""CMA-ES as ask / tell / best, maximising; pycma does the work.

Its whole state is written and read as arrays and JSON, so that a resumed search is the same search.
"""

import json
import types
from pathlib import Path

import cma
import numpy as np

from common.arrays import open_npz
from common.integrity import UNREADABLE, check_made_from, require_finite
from common.run_dir import atomic_write
from config import UserError


class CMAES:
    """Evolves a vector of `size` numbers, from 0 (train.py of the release; paper A.4) or from `start`.

    Args:
        size: parameters of C.
        sigma: first step size.
        population: candidates a generation.
        rng: the source of all its randomness.
        start: (size,), the distribution's first mean.
    """

    def __init__(
        self, size: int, sigma: float, population: int, rng: np.random.Generator, start: np.ndarray | None = None
    ):
        self.rng = rng
        options = {
            "popsize": population,
            # Cumulative step-size adaptation, pycma's choice of 2018; for so many dimensions today's would be TPA.
            "AdaptSigma": cma.sigma_adaptation.CMAAdaptSigmaCSA,
            "randn": lambda *shape: self.rng.standard_normal(shape),
            "seed": np.nan,  # leave numpy's global generator alone
            "signals_filename": "",  # else a file of that name where the command runs would steer the search
            "verbose": -9,
            "verb_log": 0,
            "verb_disp": 0,
        }
        self.search = cma.CMAEvolutionStrategy(np.zeros(size) if start is None else start, sigma, options)

    def ask(self) -> np.ndarray:
        """The next candidates, (population, size)."""
        self.asked = self.search.ask()
        return np.array(self.asked)

    def tell(self, scores: np.ndarray) -> None:
        """Takes the candidates' scores (population,), higher is better: the one place where the sign flips.
        UserError if one is not finite."""
        require_finite("the candidates", {f"the score of candidate {k}": score for k, score in enumerate(scores)})
        self.search.tell(self.asked, [-float(score) for score in scores])

    def mean(self) -> np.ndarray:
        """The distribution's mean, (size,): the agent that is scored and kept."""
        return np.array(self.search.mean)

    def spread(self) -> float:
        """Root mean square over dimensions of the distribution's standard deviation: "sigma" in the curves."""
        return float(np.sqrt(np.mean(np.square(self.search.result.stds))))

    def save(self, path: Path, extra: dict) -> None:
        """Writes the state to one npz: every array by its name in pycma's object, everything small as JSON."""
        arrays, small, aliases = self._state()
        header = {"small": small, "aliases": aliases, "random": self.rng.bit_generator.state, "extra": extra}
        with atomic_write(path) as tmp, open(tmp, "wb") as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)

    def restore(self, path: Path, run: Path | None = None, models: tuple[str, ...] = (), **settings) -> dict:
        """Reads what `save` wrote into this object, made with the same arguments; returns `extra`.

        UserError if the file is damaged, or not of this search: of another size or population, or, by the record
        `extra["made_from"]`, made from other models than those in `run`, or with other settings (as of
        `integrity.check_made_from`).
        """
        own, own_small, own_aliases = self._state()
        try:
            with open_npz(path) as file:
                header = json.loads(str(file["header"]))
                arrays = {name: file[name] for name in file.files if name != "header"}
            state = header["small"] | arrays | {name: arrays[first] for name, first in header["aliases"].items()}
            extra, random = header["extra"], header["random"]
            made_from = extra.get("made_from")
            own |= {name: own[first] for name, first in own_aliases.items()}
            for name, mine in own.items():
                if name in state and np.shape(state[name]) != mine.shape:
                    raise ValueError(f"{name} of shape {np.shape(state[name])}, expected {mine.shape}")
            # A list of arrays that was empty is small.
            if lacking := (own.keys() | own_small.keys()) - {name.removesuffix(LIST) for name in state}:
                raise ValueError(f"it lacks {sorted(lacking)[0]}")
            if state["sp.popsize"] != own_small["sp.popsize"]:
                raise ValueError(f"a population of {state['sp.popsize']}, expected {own_small['sp.popsize']}")
        except (*UNREADABLE, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not a checkpoint of this search: {error}; delete it to begin anew") from None
        if run is not None:
            check_made_from(path, made_from, run, models, **settings)
        require_finite(path, arrays)
        self.search.ask()  # makes what pycma makes at the first generation only; all it drew is overwritten
        for name, value in state.items():
            assign(self.search, name, value)
        self.rng.bit_generator.state = random
        return extra

    def _state(self) -> tuple[dict, dict, dict]:
        """(arrays, small values, aliases) of the search, as of `collect`."""
        arrays: dict[str, np.ndarray] = {}
        small: dict[str, object] = {}
        aliases: dict[str, str] = {}
        collect(self.search, "", arrays, small, aliases, {})
        return arrays, small, aliases


# What pycma keeps beside the search itself, by the last part of its name: how it was called,
SKIPPED = {"opts", "inopts", "_inopts_save_fix", "_es_opts", "inputargs", "params", "_tell2_args"}
# clocks, logs, random generators,
SKIPPED |= {"timer", "logger", "more_to_write", "randn", "_randn"}
# what follows from the arguments, and what it computes again.
SKIPPED |= {"sent_solutions", "archive", "boundary_handler", "weights", "eigenmethod", "_parameters", "_stopdict"}


FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
LIST = "[]"  # ends the name of an array that stands for a list of its rows


def collect(item: object, prefix: str, arrays: dict, small: dict, aliases: dict, seen: dict) -> None:
    """Gathers the numbers of an object and of the objects it holds, by dotted name.

    An array that stands under several names (C, B and D do) is kept once; `aliases` has the other names. TypeError at
    anything that can be neither kept nor skipped: a resumed search would be another one.
    """
    seen[id(item)] = prefix
    for name, value in vars(item).items():
        path = f"{prefix}{name}"
        if name in SKIPPED or isinstance(value, FUNCTIONS):
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            if id(value) in seen:
                aliases[path] = seen[id(value)]
            else:
                seen[id(value)] = path
                arrays[path] = value
        elif isinstance(value, np.generic):
            small[path] = value.item()
        elif value is None or isinstance(value, (bool, int, float, str)):
            small[path] = value
        elif isinstance(value, (list, tuple, range)) and all(isinstance(v, (bool, int, float)) for v in value):
            small[path] = [v.item() if isinstance(v, np.generic) else v for v in value]
        elif isinstance(value, list) and all(isinstance(v, np.ndarray) for v in value):
            arrays[path + LIST] = np.stack(value)  # directions to be tried next, all of one length
        elif hasattr(value, "__dict__") and type(value).__module__.startswith("cma"):
            if id(value) not in seen:
                collect(value, path + ".", arrays, small, aliases, seen)
        elif not (isinstance(value, dict) and not value):  # an empty one holds nothing
            raise TypeError(f"pycma {cma.__version__} keeps {path}, of {type(value)}, which no checkpoint can hold")


def assign(item: object, path: str, value: object) -> None:
    """Sets what `collect` found, where it found it."""
    if path.endswith(LIST):
        path, value = path.removesuffix(LIST), list(value)
    *parents, name = path.split(".")
    for parent in parents:
        item = getattr(item, parent)
    try:
        old = getattr(item, name, None)
        setattr(item, name, tuple(value) if isinstance(old, tuple) else value)
    except AttributeError:
        # A property without a setter restates what another attribute holds.
        pass
