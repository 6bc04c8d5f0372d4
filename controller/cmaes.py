"""CMA-ES, which pycma computes, and its whole state as arrays and JSON."""

import types
from contextlib import suppress
from functools import cache

import cma
import numpy as np
from threadpoolctl import threadpool_limits

from controller.es import Optimizer, require_shapes


class CMAES(Optimizer):
    """CMA-ES (train.py of the release; paper A.4).

    Args:
        adaptation: of the step size: "csa", cumulative (pycma's choice of 2018), or "tpa", two-point (what today's
            would choose for so many dimensions).
        options: pycma's, such as CMA_diagonal.
        The others are Optimizer's.
    """

    def __init__(self, size, sigma, population, rng, x0=None, adaptation: str = "csa", **options):
        super().__init__(size, sigma, population, rng, x0)
        # Sums of several threads have other last bits than one thread's: the curve would depend on the cores.
        threadpool_limits(1, user_api="blas")
        step = {"csa": cma.sigma_adaptation.CMAAdaptSigmaCSA, "tpa": cma.sigma_adaptation.CMAAdaptSigmaTPA}[adaptation]
        options = {
            "popsize": population,
            "AdaptSigma": step,
            "randn": lambda *shape: self.rng.standard_normal(shape),
            "seed": np.nan,  # leave numpy's global generator alone
            "signals_filename": "",  # else a file of that name where the command runs would steer the search
            "verbose": -9,
            "verb_log": 0,
            "verb_disp": 0,
            "conditioncov_alleviate": False,  # a change of coordinates, which no checkpoint could hold
        } | options
        self.search = cma.CMAEvolutionStrategy(self.center, sigma, options)
        if adaptation == "tpa":
            self.search.adapt_sigma.check_consistency = lambda es: None  # it draws from numpy's global generator

    def ask(self) -> np.ndarray:
        self.asked = self.search.ask()
        return np.array(self.asked)

    def _update(self, scores: np.ndarray) -> None:
        """Tells pycma, which minimises: the one place where the sign flips."""
        self.search.tell(self.asked, [-float(score) for score in scores])

    def best(self) -> np.ndarray:
        """The distribution's mean."""
        return np.array(self.search.mean)

    def spread(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.search.result.stds))))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Alone, since among several the first are not drawn but the two points of "tpa"."""
        self.rng = rng
        return np.array(self.search.ask(1)[0])

    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        """Every array by its name in pycma's object, everything small as JSON."""
        arrays: dict[str, np.ndarray] = {}
        small: dict[str, object] = {}
        aliases: dict[str, str] = {}
        collect(self.search, "", arrays, small, aliases, {})
        return arrays, {"small": small, "aliases": aliases}

    def set_state(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        self.search.ask()  # makes what pycma makes at the first generation only; all it drew is overwritten
        for name, value in by_name(arrays, small).items():
            assign(self.search, name, value)

    def require_fit(self, arrays: dict[str, np.ndarray], small: dict) -> None:
        found, own = by_name(arrays, small), by_name(*self.state())
        # Lists of arrays come and go with the generations: those that are empty here have another name there.
        found |= {name.removesuffix(LIST): value for name, value in found.items() if name.endswith(LIST)}
        # A single number may become one for each dimension, as the scaling of a diagonal covariance does.
        sized = {name: value for name, value in own.items() if isinstance(value, np.ndarray) and value.ndim}
        require_shapes(found, sized)
        if lacking := own.keys() - found.keys():
            raise ValueError(f"it lacks {min(lacking)}")
        if found["sp.popsize"] != own["sp.popsize"]:
            raise ValueError(f"a population of {found['sp.popsize']}, expected {own['sp.popsize']}")
        for name in own:  # what follows from size and population
            if name.startswith(("N", "sp.")) and not np.array_equal(found[name], own[name]):
                raise ValueError(f"{name} {found[name]}, expected {own[name]}")


def by_name(arrays: dict[str, np.ndarray], small: dict) -> dict:
    """All that `CMAES.state` returned, every value under each of its names."""
    return small["small"] | arrays | {name: arrays[first] for name, first in small["aliases"].items()}


# What pycma keeps beside the search itself, by the last part of its name: how it was called,
SKIPPED = {"opts", "inopts", "_inopts_save_fix", "_es_opts", "inputargs", "params", "_tell2_args"}
# clocks, logs, random generators,
SKIPPED |= {"timer", "logger", "more_to_write", "randn", "_randn"}
# what follows from the arguments, and what it computes again.
SKIPPED |= {"sent_solutions", "archive", "boundary_handler", "weights", "eigenmethod"}
SKIPPED |= {"_parameters", "_mueff", "_lam", "_stopdict"}


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
        elif isinstance(value, dict) and value and all(isinstance(v, float) for v in value.values()):
            small[path] = {key: float(v) for key, v in value.items()}  # the diagonal covariance's learning rates
        elif isinstance(value, list) and all(isinstance(v, np.ndarray) for v in value):
            arrays[path + LIST] = np.stack(value)  # directions to be tried next, all of one length
        elif hasattr(value, "__dict__") and type(value).__module__.startswith("cma"):
            if id(value) not in seen:
                collect(value, path + ".", arrays, small, aliases, seen)
        elif not (isinstance(value, dict) and not value):  # an empty one holds nothing
            raise TypeError(f"pycma {cma.__version__} keeps {path}, of {type(value)}, which no checkpoint can hold")


def assign(item: object, path: str, value: object) -> None:
    """Sets what `collect` found, where it found it; ValueError of a name that leads elsewhere."""
    if path.endswith(LIST):
        path, value = path.removesuffix(LIST), list(value)
    *parents, name = parts = path.split(".")
    for parent in parents:
        item = vars(item)[parent]
    old = getattr(item, name, None)
    # pycma makes some attributes on the way, but none that its code does not name.
    known = name in vars(item) or name in names_in_code(type(item))
    if callable(old) or not known or any(part in SKIPPED or part.startswith("__") for part in parts):
        raise ValueError(f"{path} is not of a search's state")
    with suppress(AttributeError):  # a property without a setter restates what another attribute holds
        setattr(item, name, tuple(value) if isinstance(old, tuple) else value)


@cache
def names_in_code(kind: type) -> set[str]:
    """The attributes and globals that the methods of one of pycma's classes name; none of another class."""
    found: set[str] = set()
    for part in kind.__mro__:
        for value in vars(part).values() if part.__module__.startswith("cma") else ():
            parts = (value.fget, value.fset) if isinstance(value, property) else (value,)
            found.update(*(code.__code__.co_names for code in parts if isinstance(code, types.FunctionType)))
    return found
