"""What the page takes from a run."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from controller.lanes import RealLanes
from controller.policy import Controller
from doom_rnn.dream import Starts
from world_models import published, results, tasks
from world_models.config import Config, UserError
from world_models.runs import episodes, files
from world_models.runs.agent import read_best
from world_models.runs.artifacts import SEARCHES
from world_models.runs.run import Run
from world_models.seeds import episode_seeds, generator
from world_models.stages.film import episode
from world_models.tasks.controls import Controls, plain
from world_models.world_model import WorldModel, load_rnn, load_vae

FRAMES = 16  # of the strip
STARTS = 100  # first frames where dreams begin


@dataclass
class Source:
    """A run, read.

    Attributes:
        config: its configuration; vae, rnn: V and M with their weights.
        parameters: C's, flat; None if it has not been evolved.
        layers: C's as (inputs, outputs, has biases).
        starts: (mu, logvar) of first frames, each (N, Z).
        frames: uint8 (FRAMES, 64, 64, 3), from a real episode; z: V's mu of them, (FRAMES, Z).
        frames_of: which episode, in words.
        rnn_steps: M's training steps in all rounds; 0 if that is not known. rnn_rounds: in how many it was trained.
        scores: dicts of "mean", "std", "by" ("ours", "paper"), "where" ("dream", "real") and, of ours, "episodes".
    """

    config: Config
    vae: object
    rnn: object
    parameters: np.ndarray | None
    layers: list[tuple[int, int, bool]]
    starts: tuple[np.ndarray, np.ndarray]
    frames: np.ndarray
    z: np.ndarray
    frames_of: str
    rnn_steps: int
    rnn_rounds: int
    scores: list[dict]

    @property
    def actions(self) -> int:
        return tasks.get(self.config.task).action_size

    @property
    def controls(self) -> Controls:
        """How a person plays the task."""
        task = tasks.get(self.config.task)
        return task.controls or plain(task.label, task.action_size, task.fps)

    @property
    def short_training(self) -> str:
        """A sentence if M was trained for fewer steps than the published one, in all rounds, else ""."""
        task = tasks.get(self.config.task)
        if not task.published:
            return ""
        paper, own = tasks.preset(task.name, "paper").rnn_steps, self.rnn_steps
        if not own or own >= paper or "rnn" in self.config.untrained:
            return ""
        rounds = f" in {self.rnn_rounds} rounds" if self.rnn_rounds > 1 else ""
        what = f" and {self.controls.lost}: R starts another dream" if self.controls.lost else ""
        return f"M was trained for {own:,} steps{rounds} of the published {paper:,}{what}."

    @property
    def end_head(self) -> bool:
        """Whether M predicts the episode's end, and is told its beginning."""
        return "end" in self.rnn.heads


def read(run: Run) -> Source:
    """UserError, in one line, if V, M, first frames or real frames are missing, or do not fit the settings."""
    config, vae, rnn, first = run.config, load_vae(run), load_rnn(run), Starts(run)
    chosen = generator(config.seed, "page").permutation(len(first.mu))[:STARTS]
    controller, parameters = Controller.of(config), None
    if (run / "controller/best.json").exists():
        parameters = np.array(read_best(run, controller.num_params)["parameters"])
    frames, frames_of = real_frames(run, vae, rnn, parameters)
    z = vae.encode(frames)[0].numpy()
    starts = (first.mu[chosen], first.logvar[chosen])
    return Source(
        config, vae, rnn, parameters, controller.layers, starts, frames, z, frames_of, *rnn_steps(run), scores(run)
    )


def rnn_steps(run: Run) -> tuple[int, int]:
    """M's training steps in all rounds that trained it, and the number of these rounds; 0 steps if the learning curves
    of one of them are missing."""
    rounds = [one for one in (*run.earlier, run) if not one.config.models_stay]
    curves = [[line for line in files.read_lines(one / "metrics.jsonl") if line["model"] == "rnn"] for one in rounds]
    if not all(curves):
        return (run.config.rnn_steps, 1) if run.config.round == 1 else (0, len(rounds))
    return sum(lines[-1]["step"] for lines in curves), len(rounds)


def real_frames(run: Run, vae, rnn, parameters: np.ndarray | None) -> tuple[np.ndarray, str]:
    """Frames spread over a real episode: the run's first recording, or one that its agent plays now."""
    config = run.config
    if run.is_current("record"):
        first = episodes.complete(run)[0]
        frames, _ = episodes.read(first)
        policy = episodes.read_source(first).get("policy")
        player = "an earlier agent's play" if policy in SEARCHES.values() else "random play"
        which = f"the run's first recording, {len(frames)} frames of {player}"
    elif parameters is not None:
        lanes = RealLanes(dataclasses.replace(config, play_in="real", dtype="float32"), WorldModel(vae, rnn), 1)
        frames, total = episode(lanes, parameters, episode_seeds(config.seed, "test", 0, 1)[0])
        lanes.close()
        which = f"an episode that C played for this page: {len(frames)} frames, return {total:.0f}"
    else:
        raise UserError(f"{run} holds no real frames: neither record/, nor an agent that could play (best.json)")
    return frames[np.linspace(0, len(frames) - 1, FRAMES, dtype=int)], which


def scores(run: Run) -> list[dict]:
    """The run's own agent in its dream and in the game, by the test of most episodes; each followed by what the paper
    reports for it."""
    rows: dict[str, dict] = {}
    config = run.config
    trained = results.trained_temperature(config)
    for row in results.read(run):
        plain = row["dtype"] == "float32" and row["pixels"] == config.pixels and row["trained_temperature"] == trained
        if (
            not plain
            or row["variant"] != "plain"
            or row["view"] not in (None, config.view)
            or row["features"] != config.features
        ):
            continue
        if row["play_in"] == "dream" and row["temperature"] != config.temperature:
            continue
        if row["play_in"] not in rows or row["episodes"] > rows[row["play_in"]]["episodes"]:
            rows[row["play_in"]] = row
    found = []
    for env, row in sorted(rows.items()):
        found.append({"by": "ours", "mean": row["mean"], "std": row["std"], "episodes": row["episodes"], "where": env})
        if (score := published.score(row)) is not None:
            found.append({"by": "paper", "mean": score[0], "std": score[1], "where": env})
    return found
