"""A run's V and M: made for its task, and filled with its weights."""

from pathlib import Path

from config import Config, action_size
from folder import need
from rnn.model import MDNRNN
from training import load_weights
from vae.model import VAE


def make_vae(config: Config, dtype: str = "float32") -> VAE:
    return VAE(config.z_size, dtype)


def make_rnn(config: Config) -> MDNRNN:
    sizes = (config.z_size, action_size(config.task), config.rnn_units, config.mixtures)
    return MDNRNN(*sizes, config.rnn_heads, config.restart_weight, config.optimism_weight)


def load_vae(run: Path, config: Config, dtype: str = "float32") -> VAE:
    """V with the run's weights; UserError saying what to run if there are none, or they are another size's."""
    command = f"python train_vae.py --run {run}"
    model = make_vae(config, dtype)
    load_weights(model, need(run / "vae.weights.h5", command), f"V with z of {config.z_size} numbers", command)
    return model


def load_rnn(run: Path, config: Config) -> MDNRNN:
    """M with the run's weights; UserError as for V."""
    command = f"python train_rnn.py --run {run}"
    model = make_rnn(config)
    expected = f"M of {config.rnn_units} units for {config.task} and z of {config.z_size} numbers"
    load_weights(model, need(run / "rnn.weights.h5", command), expected, command)
    return model
