"""Runs as small as a report can be of: folders of JSON files."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from world_models import tasks
from world_models.results import identity
from world_models.runs import run_dir, storage


def result(config, returns, **changes) -> dict:
    """A row as evaluate.py writes it."""
    returns = np.array(returns, float)
    row = identity(config) | {
        "generation": 4,
        "episodes": len(returns),
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "ranks": 2,
        "hardware": "a processor, 2 ranks",
        "command": "evaluate.py --run runs/x --episodes 3",
        "returns": returns.tolist(),
        "seeds": list(range(len(returns))),
    }
    return row | changes


def make_run(path: Path, config, rows: list[dict], trained: bool = True) -> Path:
    """A run folder of JSON files; with `trained`, also histories of four generations and a picture."""
    run_dir.save(config, path)
    storage.write_text(path / "results.json", json.dumps({"results": rows}))
    if not trained:
        return path
    history = [
        {
            "generation": g,
            "seconds": 3600.0 * g,
            "mean": 100.0 * g,
            "min": 10.0 * g,
            "max": 150.0 * g,
            "evaluation": {"mean": 120.0 * g, "std": 5.0, "episodes": 4} if g % 2 == 0 else None,
        }
        for g in range(1, 5)
    ]
    metrics = [{"model": "vae", "step": k, "seconds": k, "vae_loss": 90.0 / k, "r_loss": 70.0 / k} for k in (20, 40)]
    metrics += [{"model": "rnn", "step": k, "seconds": k / 2, "loss": 2.0 - k / 60} for k in (20, 40)]
    for name, lines in (("controller/history.jsonl", history), ("metrics.jsonl", metrics)):
        storage.write_text(path / name, "".join(json.dumps(line) + "\n" for line in lines))
    storage.write_text(path / "controller" / "best.json", json.dumps({"generation": 4, "score": 1.0, "parameters": []}))
    (path / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    Image.fromarray(noise).save(path / "pictures" / "reconstructions.png")
    return path


def cells_of(text: str, start: str) -> list[list[str]]:
    """The lines of a report's tables that begin with the cell `start`."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def make_car(path: Path) -> Path:
    config = tasks.preset("carracing", "smoke")
    return make_run(path, config, [result(config, [800.5, 850.25, 912.0])])
