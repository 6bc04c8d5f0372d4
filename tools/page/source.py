"""What the page takes from a run."""

import base64
import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from controller.lanes import RealLanes
from controller.policy import INPUTS, Controller
from doom_rnn.dream import Starts
from tools.page import weights
from world_models import published, results, tasks
from world_models.config import Config, UserError
from world_models.runs import episodes, files
from world_models.runs.agent import read_best
from world_models.runs.artifacts import SEARCHES
from world_models.runs.run import Run
from world_models.seeds import episode_seeds, generator
from world_models.stages.film import episodes as play_episodes
from world_models.stages.film import median_seed
from world_models.tasks.task import Task
from world_models.text import plus_minus
from world_models.world_model import WorldModel, load_rnn, load_vae

FRAMES = 8  # real ones, next to V's reconstructions
STARTS = 100  # first frames where dreams begin
# How a person plays a task, by its name. In a step, number `action` of the action goes a share `ease` of the way to a
# key's `value`. C's number a becomes scale * a + offset, cut to low..high. Sizes below `dead_zone` do nothing.
CONTROLS = json.loads(Path(__file__).with_name("controls.json").read_text(encoding="utf-8"))
USUAL = {"unit": "return", "end": "the end", "ended": "came to the end", "lost": "", "easier": "", "dead_zone": 0.0}
USUAL |= {"survival": False}  # whether a score is the steps until the end
EVERY, COLUMNS = 2, 16  # of the film: steps between two pictures; pictures in a row of its sheet


@dataclass
class Source:
    """A run, read.

    Attributes:
        config: its configuration; vae, rnn: V and M with their weights.
        parameters: C's, flat; None if it has not been evolved.
        starts: (mu, logvar) of first frames, each (N, Z).
        game: uint8 (T, 64, 64, 3), a real episode; game_of: which one, in words.
        tests: the rows of results.json that the page shows, by "dream" and "real".
        short_training: a sentence, or "": see there.
    """

    config: Config
    vae: object
    rnn: object
    parameters: np.ndarray | None
    starts: tuple[np.ndarray, np.ndarray]
    game: np.ndarray
    game_of: str
    tests: dict[str, dict]
    short_training: str

    @property
    def facts(self) -> dict:
        """What the page says of the run, as JSON has it."""
        config, task = self.config, tasks.get(self.config.task)
        facts = {
            **controls_of(task),
            "z_size": config.z_size,
            "units": config.rnn_units,
            "mixtures": config.mixtures,
            "end_head": "end" in self.rnn.heads,
            "heads": len(self.rnn.heads),
            "dropout": config.dream_dropout,
            "temperature": config.temperature,
            "max_frames": config.dream_limit,
            "short_training": self.short_training,
            "evolved_in_dream": config.play_in == "dream",
            "inputs": INPUTS[config.features],
            "game_of": self.game_of,
            "film": film(self.game),
            "scores": scores(self.tests),
        }
        if self.parameters is not None:
            facts |= {"layers": Controller.of(config).layers, "parameters": self.parameters.tolist()}
        return facts

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The weights, first frames, and frames spread over the real episode with V's mu of them, by name."""
        mu, logvar = self.starts
        frames = self.game[np.linspace(0, len(self.game) - 1, FRAMES + 1, dtype=int)[1:]]
        arrays = weights.decoder(self.vae) | weights.memory(self.rnn) | {"start_mu": mu, "start_logvar": logvar}
        return arrays | {"z": self.vae.encode(frames)[0].numpy(), "frames": frames}


def controls_of(task: Task) -> dict:
    """The task's row of controls.json. A task without one is played with the arrow keys: of choices they make the first
    four, which stay until the next; else they are the first two numbers of the action."""
    if task.choice:
        goal, name = "Each arrow key makes a choice, which stays until the next.", "choice"
        keys = [(key, k, 1.0, f"choice {k}") for k, key in enumerate(("Left", "Right", "Up", "Down"))]
    else:
        goal, name = "The arrow keys move the first numbers of the action.", "action"
        keys = [("Left", 0, -1.0, "−"), ("Right", 0, 1.0, "+"), ("Up", 1, 1.0, "+"), ("Down", 1, -1.0, "−")]
    usual = {"scale": 1.0, "offset": 0.0, "ease": 1.0, "high": 1.0}
    row = USUAL | {"title": task.label, "goal": goal, "fps": task.fps, "choice": task.choice}
    row["actions"] = [usual | {"name": f"{name} {k}", "low": low} for k, low in enumerate(task.low)]
    shown = [key for key in keys if key[1] < task.action_size]
    row["keys"] = [dict(zip(("key", "action", "value", "label"), key, strict=True)) for key in shown]
    return row | CONTROLS.get(task.name, {})


def read(run: Run) -> Source:
    """UserError, in one line, if V, M, first frames or a real episode are missing, or do not fit the settings."""
    config, vae, rnn, first = run.config, load_vae(run), load_rnn(run), Starts(run)
    chosen = generator(config.seed, "page").permutation(len(first.mu))[:STARTS]
    parameters, tested = None, tests(run)
    if (run / "controller/best.json").exists():
        parameters = np.array(read_best(run, Controller.of(config).num_params)["parameters"])
    game, game_of = real_episode(run, vae, rnn, parameters, tested.get("real"))
    starts = (first.mu[chosen], first.logvar[chosen])
    return Source(config, vae, rnn, parameters, starts, game, game_of, tested, short_training(run))


def short_training(run: Run) -> str:
    """A sentence if M was trained for fewer steps than the published one, in all rounds, else ""."""
    task = tasks.get(run.config.task)
    paper = tasks.preset(task.name, "paper").rnn_steps if task.published else 0
    steps, rounds = rnn_steps(run)
    if not 0 < steps < paper or "rnn" in run.config.untrained:
        return ""
    within = f" in {rounds} rounds" if rounds > 1 else ""
    lost = controls_of(task)["lost"]
    lost = lost and f" Its dream {lost}: Restart begins another."
    return f"M was trained for {steps:,} steps{within}, the paper's M for {paper:,}.{lost}"


def rnn_steps(run: Run) -> tuple[int, int]:
    """M's training steps in all rounds that trained it, and the number of these rounds; 0 steps if the learning curves
    of one of them are missing."""
    rounds = [one for one in (*run.earlier, run) if not one.config.models_stay]
    curves = [[line for line in files.read_lines(one / "metrics.jsonl") if line["model"] == "rnn"] for one in rounds]
    if not all(curves):
        return (run.config.rnn_steps, 1) if run.config.round == 1 else (0, len(rounds))
    return sum(lines[-1]["step"] for lines in curves), len(rounds)


def real_episode(run: Run, vae, rnn, parameters: np.ndarray | None, row: dict | None) -> tuple[np.ndarray, str]:
    """The frames of a real episode, and which it is: the median one of the agent's test, played again; the first one of
    its test if it has not been tested; without an agent the run's first recording."""
    config = run.config
    if parameters is not None:
        lanes = RealLanes(dataclasses.replace(config, play_in="real", dtype="float32"), WorldModel(vae, rnn), 1)
        seed = median_seed(row) if row else episode_seeds(config.seed, "test", 0, 1)[0]
        (played,) = play_episodes(lanes, parameters, [seed])
        lanes.close()
        frames = played.frames
        which = f"the median of C's {row['episodes']:,} test episodes" if row else "an episode of C"
        return frames, f"{which}: {len(frames):,} steps, return {played.total:.0f}"
    if not run.is_current("record"):
        raise UserError(f"{run} holds no real frames: neither record/, nor an agent that could play (best.json)")
    first = episodes.complete(run)[0]
    agent = episodes.read_source(first).get("policy") in SEARCHES.values()
    frames = episodes.read(first).obs
    return frames, f"the run's first recording: {len(frames):,} steps of {'an agent' if agent else 'random play'}"


def film(frames: np.ndarray) -> dict:
    """Every second frame of an episode on one sheet, as the address of a picture."""
    shown = frames[::EVERY]
    height = -(-len(shown) // COLUMNS)
    sheet = np.zeros((height * COLUMNS, *shown.shape[1:]), np.uint8)
    sheet[: len(shown)] = shown
    sheet = sheet.reshape(height, COLUMNS, 64, 64, 3).swapaxes(1, 2).reshape(height * 64, COLUMNS * 64, 3)
    data = io.BytesIO()
    Image.fromarray(sheet).save(data, "WEBP", quality=80)
    picture = "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
    return {"steps": len(frames), "every": EVERY, "columns": COLUMNS, "picture": picture}


def tests(run: Run) -> dict[str, dict]:
    """The tests of the run's own agent in its dream and in the game; of several the one of most episodes."""
    found = {}
    for row in sorted(results.read(run), key=lambda row: row["episodes"]):
        if results.identity(run.config, play_in=row["play_in"]).items() <= row.items():
            found[row["play_in"]] = row
    return dict(sorted(found.items()))  # the dream's first


def scores(tests: dict[str, dict]) -> list[dict]:
    """Of each test "by" ("ours", "paper"), "where", "mean", "std" and "text"; then what the paper reports for it."""
    found = []
    for where, row in tests.items():
        known = [("ours", (row["mean"], row["std"]), plus_minus(row["mean"], row["std"]))]
        if (score := published.score(row)) is not None:
            known.append(("paper", score, published.plus_minus(*score)))
        found += [{"by": by, "where": where, "mean": m, "std": std, "text": text} for by, (m, std), text in known]
    return found
