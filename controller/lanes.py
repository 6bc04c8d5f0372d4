"""The lanes of a run: in its real environment, or in its dream."""

from pathlib import Path

from config import Config
from controller.agent import load_rnn, load_vae, use_one_thread
from controller.rollout import RealLanes


def make_lanes(run: Path, config: Config, count: int):
    """`count` lanes of the kind that `config.env` says, with the run's V and M."""
    use_one_thread()
    if config.env == "dream":
        from doom_rnn.dream import DreamLanes

        return DreamLanes(config, load_rnn(run, config), run / "initial_z.npz", count)
    return RealLanes(config, load_vae(run, config, config.dtype), load_rnn(run, config), count)
