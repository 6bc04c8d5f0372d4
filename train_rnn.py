"""Encodes the recorded episodes with V, once, and fits M to them.

    python train_rnn.py --run runs/car

Needs vae.weights.h5. Writes series.npz (mu, logvar, action of every frame), initial_z.npz (first frames, where
dreams start), rnn.weights.h5 and learning curves (metrics.jsonl, tensorboard/). Uses all cores, or a GPU; the same
command again goes on from the last checkpoint.
"""

from pathlib import Path

import numpy as np

import cli
import config as configs
import folder
import seeds
from diary import noted
from progress import bar as progress_bar
from training import fit, hold_memory, make_optimizer, quiet_tensorflow, save_arrays, save_weights, use_one_gpu

quiet_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from doom_rnn.data import Streams  # noqa: E402
from doom_rnn.models import load_vae, make_rnn  # noqa: E402
from rnn.data import Series, Windows, encode  # noqa: E402
from vae.data import episodes  # noqa: E402
from vae.model import sample  # noqa: E402


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """(first - last) * decay^step + last, as the release's Doom has it; constant where first is last."""

    def __init__(self, first: float, last: float, decay: float):
        self.first, self.last, self.decay = first, last, decay

    def __call__(self, step):
        return (self.first - self.last) * self.decay ** tf.cast(step, tf.float32) + self.last

    def get_config(self):
        return {"first": self.first, "last": self.last, "decay": self.decay}


def make_step(model, optimizer, state, config: configs.Config):
    """step(number, fresh, mu, logvar, action, restart) -> losses: one Adam step, compiled.

    Batches are time first, one frame longer than the sequence: M sees all but the last, and is asked for all
    but the first. z is drawn afresh from (mu, logvar) each time. `state`, M's (h, c), each (B, U), is carried
    from call to call.
    """
    loss_and_slope = tf.function(lambda output, z, restart: _slope(model, output, z, restart), jit_compile=True)

    @tf.function
    def step(number, fresh, mu, logvar, action, restart):
        mu, logvar = tf.cast(mu, tf.float32), tf.cast(logvar, tf.float32)
        z = sample(mu, logvar, tf.random.stateless_normal(tf.shape(mu), [config.seed, number]))
        keep = 1.0 - tf.cast(fresh, tf.float32)
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            output, h, c = model.unroll(z[:-1], action[:-1], restart[:-1], state[0] * keep, state[1] * keep)
        losses, slope = loss_and_slope(output, z[1:], restart[1:])
        gradients = tape.gradient(output, variables, output_gradients=slope)
        optimizer.apply([tf.clip_by_value(g, -1.0, 1.0) for g in gradients], variables)
        state[0].assign(h)
        state[1].assign(c)
        return losses

    return step


def _slope(model, output, z, restart):
    """The losses and their gradient by M's output. Compiled apart: XLA makes this fast, and recurrence slow."""
    with tf.GradientTape() as tape:
        tape.watch(output)
        losses = model.losses(output, z, restart)
    return losses, tape.gradient(losses["loss"], output)


def series_of(run: Path, config: configs.Config) -> Series:
    """The encoded episodes: read, or made."""
    path = run / "series.npz"
    mirrored = configs.MIRRORED[config.task] if config.mirror == "yes" else None
    if not path.exists():
        encode_episodes(run, config, mirrored)
    return Series.read(path, config.z_size, config.episodes * (2 if mirrored else 1))


def encode_episodes(run: Path, config: configs.Config, mirrored: tuple[float, ...] | None) -> None:
    vae = load_vae(run, config)
    chunk = 500
    compiled = tf.function(vae.encode, reduce_retracing=True)

    def encoder(obs):
        pairs = [compiled(obs[k : k + chunk]) for k in range(0, len(obs), chunk)]
        return tuple(np.concatenate([np.asarray(pair[i]) for pair in pairs]) for i in (0, 1))

    def progress(parts):
        return progress_bar(parts, desc="encoding episodes", unit="part")

    encode(run, episodes(run, config.episodes), encoder, progress, mirrored)


def train(run: Path, config: configs.Config) -> None:
    folder.refuse(run, folder.EVOLVED, "evolved with another M than the one to be trained")
    series = series_of(run, config)
    first = series.starts[: config.initial_frames]
    save_arrays(
        run / "initial_z.npz",
        {"mu": series.mu[first].astype(np.float32), "logvar": series.logvar[first].astype(np.float32)},
    )
    keras.utils.set_random_seed(int(seeds.generator(config.seed, "rnn").integers(1 << 31)))
    model = make_rnn(config)
    if "rnn" in config.untrained:
        save_weights(model, run / "rnn.weights.h5")
        print("M is left untrained, as asked for")
        return
    kind = Streams if config.task == "doom" else Windows
    batches = kind(series, config.rnn_batch, config.rnn_length, config.seed)
    rate = Rate(config.rnn_rate, config.rnn_rate_end, config.rnn_rate_decay)
    optimizer = make_optimizer(rate, model.trainable_variables)
    state = [tf.Variable(tf.zeros((config.rnn_batch, config.rnn_units)), trainable=False) for _ in range(2)]
    step = make_step(model, optimizer, state, config)
    fit(run, "rnn", model, [*optimizer.variables, *state], step, batches, config.rnn_steps, every=10)


def main() -> None:
    args = cli.parser(__doc__).parse_args()
    use_one_gpu()
    config = folder.prepare(args.run, cli.overrides(args), args.base)
    if (args.run / "rnn.weights.h5").exists():
        print(f"{args.run}/rnn.weights.h5 is there already")
    else:
        hold_memory()
        with noted(args.run):
            train(args.run, config)


if __name__ == "__main__":
    cli.command(main)
