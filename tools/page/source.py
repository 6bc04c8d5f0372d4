"""What the page takes from a run: the only module here that imports the project's own."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import folder
import published
import results
from config import Config, UserError, action_size
from controller import policy
from controller.film import episode
from controller.rollout import RealLanes
from doom_rnn.dream import read_starts
from doom_rnn.models import load_rnn, load_vae
from seeds import episode_seeds, generator
from vae.data import episodes as recordings
from vae.data import read_episode

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
        scores: dicts of "who", "mean", "std", "by" ("ours", "paper"), "where" ("dream", "game").
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
    scores: list[dict]

    @property
    def actions(self) -> int:
        return action_size(self.config.task)

    @property
    def end_head(self) -> bool:
        """Whether M predicts the episode's end, and is told its beginning."""
        return bool(self.rnn.flags)


def read(run: Path) -> Source:
    """UserError, in one line, if V, M, first frames or real frames are missing, or M's heads are others."""
    config = folder.load(run)
    vae, rnn = load_vae(run, config), load_rnn(run, config)
    check_heads(run, rnn)
    mu, logvar = read_starts(run / "initial_z.npz", config)
    chosen = generator(config.seed, "page").permutation(len(mu))[:STARTS]
    path = run / "controller" / "best.json"
    parameters = np.array(json.loads(path.read_text())["parameters"]) if path.exists() else None
    layers = policy.layers(config.task, config.features, config.z_size, config.rnn_units)
    frames, frames_of = real_frames(run, config, vae, rnn, parameters)
    z = vae.encode(frames)[0].numpy()
    starts = (mu[chosen], logvar[chosen])
    return Source(config, vae, rnn, parameters, layers, starts, frames, z, frames_of, scores(run, config))


def check_heads(run: Path, rnn) -> None:
    """UserError unless M's output is the mixture of the next z, after an end head's one number or none."""
    outputs, mixture = rnn.head.units, 3 * rnn.mixtures * rnn.z_size
    if rnn.flags not in (0, 1) or outputs != mixture + rnn.flags:
        raise UserError(
            f"{run}: M has {outputs} outputs; the page knows the {mixture} of the mixture, alone or after one that "
            "predicts the end"
        )


def real_frames(run: Path, config: Config, vae, rnn, parameters) -> tuple[np.ndarray, str]:
    """Frames spread over a real episode: the run's first recording, or one that its agent plays now."""
    if list((run / "record").glob("[0-9]*.npz")):
        frames, _ = read_episode(recordings(run, config.episodes)[0])
        which = f"the run's first recording, {len(frames)} frames of random play"
    elif parameters is not None:
        lanes = RealLanes(dataclasses.replace(config, env="real", dtype="float32"), vae, rnn, 1)
        frames, total = episode(lanes, parameters, episode_seeds(config.seed, "test", 0, 1)[0])
        lanes.close()
        which = f"an episode that C played for this page: {len(frames)} frames, return {total:.0f}"
    else:
        raise UserError(f"{run} holds no real frames: neither record/, nor an agent that could play (best.json)")
    return frames[np.linspace(0, len(frames) - 1, FRAMES, dtype=int)], which


def scores(run: Path, config: Config) -> list[dict]:
    """The tests of the run's own agent, each followed by what the paper reports for it."""
    found = []
    trained = results.trained_temperature(config)
    for row in results.read(run / "results.json"):
        plain = row["dtype"] == "float32" and row["pixels"] == config.pixels and row["trained_temperature"] == trained
        if not plain or row["view"] not in (None, config.view) or row["features"] != config.features:
            continue
        if row["env"] == "dream" and row["temperature"] != config.temperature:
            continue
        place = {"where": row["env"]}
        found.append({"by": "ours", "mean": row["mean"], "std": row["std"], "episodes": row["episodes"], **place})
        if (score := published.score(row)) is not None:
            found.append({"by": "paper", "mean": score[0], "std": score[1], **place})
    return sorted(found, key=lambda entry: entry["where"])
