"""V's training: its step, its loop, and a picture of what it has learnt."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from vae.data import Frames
from vae.model import VAE, losses
from world_models import seeds
from world_models.config import Config
from world_models.pictures import Row, save_sheet
from world_models.runs import episodes
from world_models.runs.run import Run
from world_models.training import fit, make_optimizer

PICTURE = Path("pictures") / "reconstructions.png"


def make_step(model: VAE, optimizer: keras.Optimizer, config: Config) -> Callable:
    """step(number, frames) -> losses: one Adam step, compiled."""
    key = seeds.key(config.seed, "noise of V")

    @tf.function(jit_compile=True)
    def step(number, frames):
        noise = tf.random.stateless_normal((config.vae_batch, config.z_size), [key, number])
        with tf.GradientTape() as tape:
            reconstruction, mu, logvar = model(frames, noise)
            r_loss, kl_loss = losses(frames, reconstruction, mu, logvar, config.kl_tolerance)
            loss = r_loss + kl_loss
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return {"vae_loss": loss, "r_loss": r_loss, "kl_loss": kl_loss}

    return step


def initialize_output_bias(model: VAE, paths: list[Path], seed: int) -> None:
    """Sets the bias of V's last layer so that an untrained V draws the mean colour of up to 12 recorded episodes.

    From a bias of 0 the first steps drive a plain white background to where float32's sigmoid is 1 and has no gradient.
    V then saturates at white permanently, and z carries no information.
    """
    rng = seeds.generator(seed, "mean colour")
    chosen = rng.choice(len(paths), size=min(12, len(paths)), replace=False)
    mean = np.mean([episodes.read(paths[k]).obs.mean(axis=(0, 1, 2)) for k in chosen], axis=0) / 255
    mean = np.clip(mean, 0.01, 0.99)  # a pure white or black has no finite bias
    model.transposed[-1].bias.assign(np.log(mean / (1 - mean)))


def fit_vae(run: Run, model: VAE, paths: list[Path]) -> None:
    """Trains V on the frames of recorded episodes (see `world_models.training.fit`)."""
    config = run.config
    frames = Frames(paths, config.vae_batch, config.seed, config.linked_episodes, config.new_share)
    ends = np.cumsum([frames.steps(epoch) for epoch in range(config.vae_epochs)])
    optimizer = make_optimizer(config.vae_rate, model.trainable_variables)

    def batches(first: int):
        for epoch, end in enumerate(ends):
            start = int(end) - frames.steps(epoch)
            if first < end:
                for batch in frames.epoch(epoch, skip=max(0, first - start)):
                    yield (batch,)

    step = make_step(model, optimizer, config)
    fit(run, "vae", model, optimizer.variables, step, batches, int(ends[-1]))


def save_reconstructions(run: Run, model: VAE, paths: list[Path]) -> None:
    """Draws recorded frames above their reconstructions."""
    rng = seeds.generator(run.config.seed, "reconstructions")
    chosen = []
    for k in rng.choice(len(paths), size=min(12, len(paths)), replace=False):
        obs = episodes.read(paths[k]).obs
        chosen.append(obs[rng.integers(len(obs))])
    frames = np.stack(chosen)
    mu, _ = model.encode(frames)
    seen = model.decode(mu).numpy()
    errors = tuple(f"{error:.1f}" for error in ((frames / 255 - seen) ** 2).sum(axis=(1, 2, 3)))
    title = "Recorded frames, and V's reconstructions of them"
    save_sheet(run / PICTURE, [Row("recorded", frames), Row("V", seen, errors)], title, "squared error of the frame")
