"""The kept agent's file, best.json, and what tells its search from others."""

from pathlib import Path

import numpy as np

from world_models import config as configs
from world_models.runs import config_file, integrity, run_dir

FOLDERS = {"return": "controller", "surprise": "curious"}  # of what C is evolved for


def origin(config: configs.Config, objective: str) -> dict:
    """What tells a search from others, beside V and M: their checkpoints and agents are not this one's."""
    search = ("optimizer", "population", "seed", "round", "env", "temperature")
    names = ("task", "features", "z_size", "rnn_units", *search)
    settings = config_file.settings_digest(config, "search")
    return {name: getattr(config, name) for name in names} | {"objective": objective, "settings": settings}


def digest(parameters: list[float]) -> str:
    """Digest of an agent."""
    return integrity.json_digest({"parameters": parameters})


def read_best(search: Path, size: int) -> dict:
    """The kept agent (best.json) of a search's folder: its `parameters`, `score`, and `generation`, which an imported
    one does not have: None. UserError if there is none, it is damaged, of another architecture, evolved with another V
    or M, or in another search."""
    run = search.parent
    command = f"python train_controller.py --run {run}"
    path = run_dir.need(search / "best.json", command)
    try:
        best = integrity.read_json(path)
        found = len(best["parameters"])
        if not all(type(value) in (int, float) for value in (*best["parameters"], best["score"])):
            raise ValueError("parameters, or a score, that are no numbers")
        if not (best["generation"] is None or type(best["generation"]) is int):
            raise ValueError(f"generation {best['generation']!r}, expected a whole number")
        with np.errstate(over="ignore"):  # as the lanes hold them, in which what is too large is infinite
            numbers = {name: np.array(best[name], float).astype(np.float32) for name in ("parameters", "score")}
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise configs.UserError(f"{path} does not hold an agent: {error!r}; make it with: {command}") from None
    integrity.require_finite(path, numbers)
    objective = next((name for name, folder in FOLDERS.items() if folder == search.name), "return")
    settings = origin(run_dir.load(run), objective)
    integrity.check_made_from(path, best.get("made_from"), run, ("vae", "rnn"), **settings)
    if found != size:
        raise configs.UserError(
            f"{path} holds {found} parameters; this run's controller has {size}; evolve one in a new run with: "
            f"python train_controller.py --run NEW --from {run}"
        )
    return best
