"""M's training: its learning rate, its step, its loop, and the encoding of episodes by V."""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from rnn.batches import batches_of
from rnn.data import LatentDataset, encode
from rnn.dropout import dropout_mask
from rnn.model import MDNRNN
from vae.model import VAE, sample
from world_models import seeds, tasks
from world_models.config import Config
from world_models.runs import episodes
from world_models.runs.files import require_room
from world_models.runs.run import Run
from world_models.training import fit, make_optimizer

CHUNK = 500  # frames that V encodes at once
LEAST_SPREAD = 0.1  # of rewards, over their root mean square, from which it is their unit


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """(first - last) * decay^step + last, as the release's Doom has it; constant where first is last."""

    def __init__(self, first: float, last: float, decay: float):
        self.first, self.last, self.decay = first, last, decay

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return (self.first - self.last) * self.decay ** tf.cast(step, tf.float32) + self.last


def make_step(model: MDNRNN, optimizer: keras.Optimizer, state: list, config: Config) -> Callable:
    """step(number, is_first, mu, logvar, action, restart, end, reward, valid) -> losses: one Adam step, compiled.

    Batches are time first, one frame longer than the sequence: all frames but the last are M's input, all but the
    first its targets. z is drawn afresh from (mu, logvar) each time. `state`, M's (h, c), each (B, U), is carried
    from call to call, and zeroed where `is_first`.

    With `config.rnn_dropout` each sequence of a batch draws masks for z and h, and keeps them for all its steps
    (arXiv 2109.08342). A piece of a joined stream keeps them too, however many episodes are in it.
    """
    key, dropout_key = seeds.key(config.seed, "noise of M"), seeds.key(config.seed, "dropout of M")
    loss_and_slope = tf.function(lambda output, *targets: _slope(model, output, *targets), jit_compile=True)

    @tf.function
    def step(number, is_first, mu, logvar, action, restart, end, reward, valid):
        mu, logvar = tf.cast(mu, tf.float32), tf.cast(logvar, tf.float32)
        z = sample(mu, logvar, tf.random.stateless_normal(tf.shape(mu), [key, number]))
        mask = 1.0 - tf.cast(is_first, tf.float32)
        variables, dropout = model.trainable_variables, None
        if config.rnn_dropout:
            shape = (z.shape[1], 4, model.z_size + model.units)
            uniform = tf.random.stateless_uniform(shape, [dropout_key, number])
            dropout = dropout_mask(uniform, config.rnn_dropout, tf.where)
        with tf.GradientTape() as tape:
            before = tuple(part * mask for part in state)
            output, after = model.unroll(z[:-1], action[:-1], restart[:-1], before, dropout)
        losses, slope = loss_and_slope(output, z[1:], end[:-1], reward[:-1], valid[:-1])
        gradients = tape.gradient(output, variables, output_gradients=slope)
        optimizer.apply([tf.clip_by_value(g, -1.0, 1.0) for g in gradients], variables)
        for part, value in zip(state, after, strict=True):
            part.assign(value)
        return losses

    return step


def _slope(model, output, *targets):
    """The losses and their gradient by M's output. Compiled apart: XLA makes this fast, and recurrence slow."""
    with tf.GradientTape() as tape:
        tape.watch(output)
        losses = model.losses(output, *targets)
    return losses, tape.gradient(losses["loss"], output)


def fit_rnn(run: Run, model: MDNRNN, latents: LatentDataset) -> None:
    """Trains M on encoded episodes (see `world_models.training.fit`)."""
    config = run.config
    batches = batches_of(latents, config)
    if "reward" in config.rnn_heads:
        set_reward_unit(model, reward_unit(latents.rewards()), trained=config.round > 1)
    rate = Rate(config.rnn_rate, config.rnn_rate_end, config.rnn_rate_decay)
    optimizer = make_optimizer(rate, model.trainable_variables)
    state = [tf.Variable(tf.zeros((config.rnn_batch, config.rnn_units)), trainable=False) for _ in range(2)]
    step = make_step(model, optimizer, state, config)
    fit(run, "rnn", model, [*optimizer.variables, *state], step, batches, config.rnn_steps, every=10)


def reward_unit(rewards: np.ndarray) -> float:
    """The unit of M's rewards: their standard deviation, or their root mean square where they hardly vary (CartPole's
    are all 1), so that what M has to learn is of size 1; 1 if all are 0."""
    rewards = rewards.astype(np.float64)
    spread, size = rewards.std(), math.sqrt(np.mean(rewards**2))
    return float(spread if spread > LEAST_SPREAD * size else size) or 1.0


def set_reward_unit(model: MDNRNN, unit: float, trained: bool) -> None:
    """Sets the unit of M's rewards. A trained M, whose unit is that of an earlier round's rewards, keeps what it
    predicts."""
    if trained:
        column, weights = model.heads.index("reward"), model.head.get_weights()
        for weight in weights:
            weight[..., column] *= float(model.reward_scale) / unit
        model.head.set_weights(weights)
    model.reward_scale.assign(unit)


def initialize_from(model: MDNRNN, other: MDNRNN) -> None:
    """Gives a model the weights of an M of the same sizes that may have other heads; what it lacks starts at zero."""
    kernel, *rest = other.cell.get_weights()
    rows = np.zeros(model.cell.kernel.shape, np.float32)
    rows[: len(kernel)] = kernel[: len(rows)]  # the last row is restart's, if there is one
    model.cell.set_weights([rows, *rest])
    columns = []
    for weight in other.head.get_weights():  # (U, outputs), (outputs,)
        of_head = {name: weight[..., [k]] for k, name in enumerate(other.heads)}
        own = [of_head.get(name, 0 * weight[..., :1]) for name in model.heads]
        columns.append(np.concatenate([*own, weight[..., len(other.heads) :]], axis=-1))
    model.head.set_weights(columns)
    if "reward" in model.heads and "reward" in other.heads:
        model.reward_scale.assign(other.reward_scale)


def encode_episodes(run: Run, vae: VAE, mirror: tuple[float, ...] | None) -> None:
    """Encodes the run's episodes into series.npz; `mirror` as in `rnn.data.encode`."""
    compiled, config = tf.function(vae.encode, reduce_retracing=True), run.config

    def encoder(obs):
        pairs = [compiled(obs[k : k + CHUNK]) for k in range(0, len(obs), CHUNK)]
        return tuple(np.concatenate([np.asarray(pair[i]) for pair in pairs]) for i in (0, 1))

    paths = episodes.complete(run)
    if not (run / "series").exists():
        frames = sum(map(episodes.length_of, paths)) * (2 if mirror else 1)
        size = 2 * 2 * config.z_size + 4 * tasks.get(config.task).action_size + 4  # float16 and float32
        require_room(run / "series.npz", frames * size, times=2)  # and its parts, which it is joined from
    encode(run, paths, encoder, mirror)
