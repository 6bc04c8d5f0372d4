"""What the page takes from a run."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.lanes import RealLanes
from controller.policy import Controller
from doom_rnn.dream import Starts
from tools.reporting.runs import read_run
from tools.reporting.tables import trainings_of
from vae.data import broken, read_episode, read_source
from vae.data import episodes as recordings
from world_models import published, results, tasks
from world_models.config import Config, UserError
from world_models.runs import run_dir
from world_models.runs.agent_file import FOLDERS, read_best
from world_models.runs.arrays import UNREADABLE
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


def read(run: Path) -> Source:
    """UserError, in one line, if V, M, first frames or real frames are missing, or M's heads are others."""
    config = run_dir.load(run)
    vae, rnn = load_vae(run, config), load_rnn(run, config)
    first = Starts(run, dataclasses.replace(config, dream_starts="first"))
    chosen = generator(config.seed, "page").permutation(len(first.mu))[:STARTS]
    controller, search = Controller.of(config), run / "controller"
    kept = (search / "best.json").exists()
    parameters = np.array(read_best(search, controller.num_params)["parameters"]) if kept else None
    layers = controller.layers
    frames, frames_of = real_frames(run, config, vae, rnn, parameters)
    z = vae.encode(frames)[0].numpy()
    starts = (first.mu[chosen], first.logvar[chosen])
    trained = rnn_steps(run, config)
    return Source(config, vae, rnn, parameters, layers, starts, frames, z, frames_of, *trained, scores(run, config))


def rnn_steps(run: Path, config: Config) -> tuple[int, int]:
    """M's training steps, and in how many rounds: those of the setting, and of a later round those logged in all rounds
    that trained it; 0 steps if one's are not here."""
    if config.round == 1:
        return config.rnn_steps, 1
    found = read_run(run, run.name)
    logs = trainings_of(found, "rnn")
    made = [config, *(run_dir.load(origin.path) for origin in found.origins)]
    trained = config.round - len({each.round for each in made if each.models_stay})
    return sum(log[-1]["step"] for log in logs) if len(logs) == trained else 0, trained


def real_frames(run: Path, config: Config, vae, rnn, parameters) -> tuple[np.ndarray, str]:
    """Frames spread over a real episode: the run's first recording, or one that its agent plays now."""
    if list((run / "record").glob("[0-9]*.npz")):
        first = recordings(run, config.total_episodes)[0]
        frames, _ = read_episode(first)
        try:
            policy = read_source(first).get("policy")
        except UNREADABLE as error:
            raise broken(first, error) from None
        player = "an earlier agent's play" if policy in FOLDERS.values() else "random play"
        which = f"the run's first recording, {len(frames)} frames of {player}"
    elif parameters is not None:
        lanes = RealLanes(dataclasses.replace(config, env="real", dtype="float32"), WorldModel(vae, rnn), 1)
        frames, total = episode(lanes, parameters, episode_seeds(config.seed, "test", 0, 1)[0])
        lanes.close()
        which = f"an episode that C played for this page: {len(frames)} frames, return {total:.0f}"
    else:
        raise UserError(f"{run} holds no real frames: neither record/, nor an agent that could play (best.json)")
    return frames[np.linspace(0, len(frames) - 1, FRAMES, dtype=int)], which


def scores(run: Path, config: Config) -> list[dict]:
    """The run's own agent in its dream and in the game, by the test of most episodes; each followed by what the paper
    reports for it."""
    rows: dict[str, dict] = {}
    trained = results.trained_temperature(config)
    for row in results.read(run / "results.json"):
        plain = row["dtype"] == "float32" and row["pixels"] == config.pixels and row["trained_temperature"] == trained
        if not plain or row["view"] not in (None, config.view) or row["features"] != config.features:
            continue
        if row["env"] == "dream" and row["temperature"] != config.temperature:
            continue
        if row["env"] not in rows or row["episodes"] > rows[row["env"]]["episodes"]:
            rows[row["env"]] = row
    found = []
    for env, row in sorted(rows.items()):
        found.append({"by": "ours", "mean": row["mean"], "std": row["std"], "episodes": row["episodes"], "where": env})
        if (score := published.score(row)) is not None:
            found.append({"by": "paper", "mean": score[0], "std": score[1], "where": env})
    return found
