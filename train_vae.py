"""Fits V, the variational autoencoder, to the recorded frames.

    python train_vae.py --run runs/car

Needs the episodes of extract.py. Writes vae.weights.h5, learning curves (metrics.jsonl, tensorboard/) and
pictures/reconstructions.png. Uses all cores, or a GPU; the same command again goes on from the last checkpoint.
"""

from pathlib import Path

import numpy as np

import cli
import config as configs
import folder
import seeds
from diary import noted
from training import fit, hold_memory, make_optimizer, quiet_tensorflow, save_weights, use_one_gpu

quiet_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from doom_rnn.models import load_vae  # noqa: E402
from pictures import save_pairs  # noqa: E402
from vae.data import Frames, episodes, read_episode  # noqa: E402
from vae.model import VAE, losses  # noqa: E402

PICTURE = Path("pictures") / "reconstructions.png"
LATER = ("series", "series.npz", "rnn.checkpoint.npz", "rnn.weights.h5", *folder.EVOLVED)  # what V's z stands in


def make_step(model: VAE, optimizer, config: configs.Config):
    """step(number, frames) -> losses: one Adam step, compiled."""

    @tf.function(jit_compile=True)
    def step(number, frames):
        noise = tf.random.stateless_normal((config.vae_batch, config.z_size), [config.seed, number])
        with tf.GradientTape() as tape:
            reconstruction, mu, logvar = model(frames, noise)
            r_loss, kl_loss = losses(frames, reconstruction, mu, logvar, config.kl_tolerance)
            loss = r_loss + kl_loss
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return {"vae_loss": loss, "r_loss": r_loss, "kl_loss": kl_loss}

    return step


def train(run: Path, config: configs.Config) -> None:
    paths = episodes(run, config.episodes)
    folder.refuse(run, LATER, "made with another V than the one to be trained")
    keras.utils.set_random_seed(int(seeds.generator(config.seed, "vae").integers(1 << 31)))
    model = VAE(config.z_size)
    if "vae" in config.untrained:
        save_weights(model, run / "vae.weights.h5")
        print("V is left untrained, as asked for")
    else:
        frames = Frames(paths, config.vae_batch, config.seed)
        optimizer = make_optimizer(config.vae_rate, model.trainable_variables)

        def batches(first: int):
            for epoch in range(first // frames.steps, config.vae_epochs):
                for batch in frames.epoch(epoch, skip=max(0, first - epoch * frames.steps)):
                    yield (batch,)

        step = make_step(model, optimizer, config)
        fit(run, "vae", model, optimizer.variables, step, batches, config.vae_epochs * frames.steps)
    show(run, model, paths, config.seed)


def show(run: Path, model: VAE, paths: list[Path], seed: int) -> None:
    """A picture of recorded frames over their reconstructions."""
    rng = seeds.generator(seed, "reconstructions")
    frames = []
    for path in rng.choice(paths, size=min(12, len(paths)), replace=False):
        obs, _ = read_episode(path)
        frames.append(obs[rng.integers(len(obs))])
    frames = np.stack(frames)
    mu, _ = model.encode(frames)
    save_pairs(run / PICTURE, frames, model.decode(mu).numpy())


def main() -> None:
    args = cli.parser(__doc__).parse_args()
    use_one_gpu()
    config = folder.prepare(args.run, cli.overrides(args), args.base)
    folder.need(args.run / "record", f"python extract.py --run {args.run}")
    if (args.run / "vae.weights.h5").exists() and (args.run / PICTURE).exists():
        print(f"{args.run}/vae.weights.h5 is there already")
    elif (args.run / "vae.weights.h5").exists():  # stopped between the two, or V came from another run
        show(args.run, load_vae(args.run, config), episodes(args.run, config.episodes), config.seed)
    else:
        hold_memory()
        with noted(args.run):
            train(args.run, config)


if __name__ == "__main__":
    cli.command(main)
