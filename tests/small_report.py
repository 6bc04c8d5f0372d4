"""Runs as small as a report can be of: folders of JSON files."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from controller.policy import Controller
from world_models import tasks
from world_models.results import identity
from world_models.runs import config_file, files
from world_models.runs.artifacts import M, V
from world_models.runs.run import Run


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


def make_run(path: Path, config, rows: list[dict], trained: bool = True, before: Path | None = None) -> Path:
    """A run folder; with `trained`, also V and M that hold nothing, an agent, histories of four generations and a
    picture. `before` becomes the round before it."""
    run = Run(path, config)
    run.write_text("config.json", config_file.text(config))
    run.write_text("results.json", json.dumps({"results": rows}))
    if before is not None:
        before.rename(path / "before")
    if not trained:
        return path
    for name in (V, M):
        run.write_text(name, name)
    lines = [
        {"generation": g, "seconds": 3600.0 * g, "mean": 100.0 * g, "min": 10.0 * g, "max": 150.0 * g, "sigma": 0.1}
        | {"evaluation": {"mean": 120.0 * g, "std": 5.0, "episodes": 4} if g % 2 == 0 else None}
        for g in range(1, 5)
    ]
    run.write_text("controller/history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    size = Controller.of(config).num_params
    run.write_text("controller/best.json", json.dumps({"generation": 4, "score": 1.0, "parameters": [0.0] * size}))
    metrics = [{"model": "vae", "step": k, "seconds": k, "vae_loss": 90.0 / k, "r_loss": 70.0 / k} for k in (20, 40)]
    metrics += [{"model": "rnn", "step": k, "seconds": k / 2, "loss": 2.0 - k / 60} for k in (20, 40)]
    files.write_lines(path / "metrics.jsonl", metrics)
    noise = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    (path / "pictures").mkdir()
    Image.fromarray(noise).save(path / "pictures" / "reconstructions.png")
    return path


def cells_of(text: str, start: str) -> list[list[str]]:
    """The lines of a Markdown page's tables that begin with the cell `start`."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def make_car(path: Path, **changes) -> Path:
    config = tasks.replace(tasks.preset("carracing", "smoke"), **changes)
    return make_run(path, config, [result(config, [800.5, 850.25, 912.0])])
