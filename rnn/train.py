"""M's training: its learning rate, its step, its loop, and the encoding of episodes by V."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tasks
from common.progress import bar as progress_bar
from common.training import fit, make_optimizer
from config import Config
from rnn.data import LatentDataset, Windows, encode
from rnn.model import MDNRNN
from rnn.streams import Streams
from vae.data import episodes
from vae.model import VAE, sample

CHUNK = 500  # frames that V encodes at once


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """(first - last) * decay^step + last, as the release's Doom has it; constant where first is last."""

    def __init__(self, first: float, last: float, decay: float):
        self.first, self.last, self.decay = first, last, decay

    def __call__(self, step):
        return (self.first - self.last) * self.decay ** tf.cast(step, tf.float32) + self.last

    def get_config(self):
        return {"first": self.first, "last": self.last, "decay": self.decay}


def make_step(model: MDNRNN, optimizer, state, config: Config):
    """step(number, is_first, mu, logvar, action, restart) -> losses: one Adam step, compiled.

    Batches are time first, one frame longer than the sequence: all frames but the last are M's input, all but the
    first its targets. z is drawn afresh from (mu, logvar) each time. `state`, M's (h, c), each (B, U), is carried
    from call to call, and zeroed where `is_first`.
    """
    loss_and_slope = tf.function(lambda output, z, restart: _slope(model, output, z, restart), jit_compile=True)

    @tf.function
    def step(number, is_first, mu, logvar, action, restart):
        mu, logvar = tf.cast(mu, tf.float32), tf.cast(logvar, tf.float32)
        z = sample(mu, logvar, tf.random.stateless_normal(tf.shape(mu), [config.seed, number]))
        mask = 1.0 - tf.cast(is_first, tf.float32)
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            output, h, c = model.unroll(z[:-1], action[:-1], restart[:-1], state[0] * mask, state[1] * mask)
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


def fit_rnn(run: Path, model: MDNRNN, latents: LatentDataset, config: Config) -> None:
    """Trains M on encoded episodes (see `common.training.fit`)."""
    kind = Streams if tasks.get(config.task).restart_head else Windows
    batches = kind(latents, config.rnn_batch, config.rnn_length, config.seed)
    rate = Rate(config.rnn_rate, config.rnn_rate_end, config.rnn_rate_decay)
    optimizer = make_optimizer(rate, model.trainable_variables)
    state = [tf.Variable(tf.zeros((config.rnn_batch, config.rnn_units)), trainable=False) for _ in range(2)]
    step = make_step(model, optimizer, state, config)
    fit(run, "rnn", model, [*optimizer.variables, *state], step, batches, config.rnn_steps, every=10)


def encode_episodes(run: Path, config: Config, vae: VAE, mirror: tuple[float, ...] | None) -> None:
    """Encodes the run's episodes into series.npz; `mirror` as of `rnn.data.encode`."""
    compiled = tf.function(vae.encode, reduce_retracing=True)

    def encoder(obs):
        pairs = [compiled(obs[k : k + CHUNK]) for k in range(0, len(obs), CHUNK)]
        return tuple(np.concatenate([np.asarray(pair[i]) for pair in pairs]) for i in (0, 1))

    def progress(parts):
        return progress_bar(parts, desc="encoding episodes", unit="part")

    encode(run, episodes(run, config.episodes), encoder, progress, mirror)
