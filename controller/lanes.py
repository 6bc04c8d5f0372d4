"""The lanes of a run: in its real environment, or in its dream."""

import dataclasses
from functools import partial
from pathlib import Path

from config import Config
from controller.agent import act, policy_size, use_one_thread
from controller.rollout import CuriousLanes, RealLanes, RecordingLanes
from doom_rnn.batch import DreamLanes
from doom_rnn.models import load_rnn, load_vae

ENGINES = 16  # of Doom a rank: each is a process of its own


def make_lanes(run: Path, config: Config):
    """The lanes of a rank, of the kind that `config.env` says, with the run's V and M.

    Their number is the configuration's, not that of the episodes at hand: the last bits of a batched sum
    depend on the batch's size.
    """
    if config.env == "dream":
        use_one_thread()
        rnn = load_rnn(run, config)
        return DreamLanes(config, rnn, run, config.lanes, partial(act, config), policy_size(config))
    return make_real_lanes(run, config, RealLanes)


def make_real_lanes(run: Path, config: Config, kind: type[RealLanes]):
    """The lanes of a rank in the real environment."""
    use_one_thread()
    count = config.lanes if config.task == "carracing" else min(config.lanes, ENGINES)
    return kind(config, load_vae(run, config, config.dtype), load_rnn(run, config), count)


def make_curious_lanes(run: Path, config: Config) -> CuriousLanes:
    """Lanes whose return is M's surprise."""
    return make_real_lanes(run, config, CuriousLanes)


def make_recording_lanes(run: Path, config: Config) -> RecordingLanes:
    """Lanes that keep the episodes they play."""
    return make_real_lanes(run, dataclasses.replace(config, dtype="float32"), RecordingLanes)
