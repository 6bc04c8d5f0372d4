"""The lanes of a run: in its real environment, or in its dream."""

from functools import partial
from pathlib import Path

from config import Config
from controller.agent import act, policy_size, use_one_core
from controller.rollout import RealLanes
from doom_rnn.batch import DreamLanes
from doom_rnn.models import load_rnn, load_vae

ENGINES = 16  # of Doom a rank: each is a process of its own


def make_lanes(run: Path, config: Config):
    """The lanes of a rank, of the kind that `config.env` says, with the run's V and M.

    Their number is the configuration's, not that of the episodes at hand: the last bits of a batched sum
    depend on the batch's size.
    """
    use_one_core()
    count = config.lanes if config.task == "carracing" or config.env == "dream" else min(config.lanes, ENGINES)
    if config.env == "dream":
        rnn = load_rnn(run, config)
        return DreamLanes(config, rnn, run / "initial_z.npz", count, partial(act, config), policy_size(config))
    return RealLanes(config, load_vae(run, config, config.dtype), load_rnn(run, config), count)
