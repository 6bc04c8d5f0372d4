"""M's training: its learning rate, its step, its loop, and the encoding of episodes by V."""

import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from rnn.data import LatentDataset, Windows, encode
from rnn.model import MDNRNN
from rnn.streams import Streams
from vae.data import check_episodes, episode_length, episodes, read_outcome
from vae.model import VAE, sample
from world_models import seeds, signals, tasks
from world_models.config import Config, UserError
from world_models.progress import bar as progress_bar
from world_models.runs import config_file
from world_models.runs.storage import require_room
from world_models.training import fit, make_optimizer

FROM = ("vae",)  # what M is made from
CHUNK = 500  # frames that V encodes at once
LEAST_SPREAD = 0.1  # of rewards, over their root mean square, from which it is their unit


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """(first - last) * decay^step + last, as the release's Doom has it; constant where first is last."""

    def __init__(self, first: float, last: float, decay: float):
        self.first, self.last, self.decay = first, last, decay

    def __call__(self, step):
        return (self.first - self.last) * self.decay ** tf.cast(step, tf.float32) + self.last

    def get_config(self):
        return {"first": self.first, "last": self.last, "decay": self.decay}


def make_step(model: MDNRNN, optimizer, state, config: Config):
    """step(number, is_first, mu, logvar, action, restart, end, reward, valid) -> losses: one Adam step, compiled.

    Batches are time first, one frame longer than the sequence: all frames but the last are M's input, all but the
    first its targets. z is drawn afresh from (mu, logvar) each time. `state`, M's (h, c), each (B, U), is carried
    from call to call, and zeroed where `is_first`.
    """
    key = seeds.key(config.seed, "noise of M")
    loss_and_slope = tf.function(lambda output, *targets: _slope(model, output, *targets), jit_compile=True)

    @tf.function
    def step(number, is_first, mu, logvar, action, restart, end, reward, valid):
        mu, logvar = tf.cast(mu, tf.float32), tf.cast(logvar, tf.float32)
        z = sample(mu, logvar, tf.random.stateless_normal(tf.shape(mu), [key, number]))
        mask = 1.0 - tf.cast(is_first, tf.float32)
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            output, h, c = model.unroll(z[:-1], action[:-1], restart[:-1], state[0] * mask, state[1] * mask)
        losses, slope = loss_and_slope(output, z[1:], end[:-1], reward[:-1], valid[:-1])
        gradients = tape.gradient(output, variables, output_gradients=slope)
        optimizer.apply([tf.clip_by_value(g, -1.0, 1.0) for g in gradients], variables)
        state[0].assign(h)
        state[1].assign(c)
        return losses

    return step


def _slope(model, output, *targets):
    """The losses and their gradient by M's output. Compiled apart: XLA makes this fast, and recurrence slow."""
    with tf.GradientTape() as tape:
        tape.watch(output)
        losses = model.losses(output, *targets)
    return losses, tape.gradient(losses["loss"], output)


def made_from(config: Config) -> dict:
    """What the record of M's weights says beside V's digest."""
    settings = config_file.settings_digest(config, "rnn")
    return {"task": config.task, "seed": config.seed, "round": config.round, "settings": settings}


def fit_rnn(run: Path, model: MDNRNN, latents: LatentDataset, config: Config) -> None:
    """Trains M on encoded episodes (see `world_models.training.fit`)."""
    kind = Streams if tasks.get(config.task).stops_at_end else Windows
    old = config.linked * (2 if config.mirror == "yes" else 1)
    batches = kind(latents, config.rnn_batch, config.rnn_length, config.seed, old, config.new_share)
    if "reward" in config.rnn_heads:
        scale_rewards(run, model, latents, trained=config.round > 1)
    rate = Rate(config.rnn_rate, config.rnn_rate_end, config.rnn_rate_decay)
    optimizer = make_optimizer(rate, model.trainable_variables)
    state = [tf.Variable(tf.zeros((config.rnn_batch, config.rnn_units)), trainable=False) for _ in range(2)]
    step = make_step(model, optimizer, state, config)
    record = made_from(config)
    fit(run, "rnn", model, [*optimizer.variables, *state], step, batches, config.rnn_steps, 10, FROM, **record)


def reward_unit(rewards: np.ndarray) -> float:
    """The unit of M's rewards: their standard deviation, or their root mean square where they hardly vary (CartPole's
    are all 1), so that what M has to learn is of size 1; 1 if all are 0."""
    spread, size = float(rewards.std()), math.sqrt(np.mean(rewards.astype(np.float64) ** 2))
    return (spread if spread > LEAST_SPREAD * size else size) or 1.0


def scale_rewards(run: Path, model: MDNRNN, latents: LatentDataset, trained: bool) -> None:
    """Sets the unit of M's rewards: a later round's (`trained`) may be of rewards never met before."""
    last = np.minimum(latents.lengths, latents.ends)
    valid = np.concatenate([latents.reward[s : s + n] for s, n in zip(latents.starts, last, strict=True)])
    if np.isnan(valid).any():
        raise UserError(
            f"--heads {'+'.join(model.heads)}: some episodes of {run} were recorded before rewards were kept; delete "
            f"{run}/record and {run}/series.npz, and record them again with: python extract.py --run {run}"
        )
    model.scale_rewards(reward_unit(valid), trained)


def dream_starts(model: MDNRNN, latents: LatentDataset, config: Config) -> dict[str, np.ndarray]:
    """Frames of all episodes, with M's state before each: where dreams start with `--dream-starts any`.

    Returns:
        mu, logvar (N, Z) and h, c (N, U), float16, for N = `initial_frames`. None is later than an episode's end.
    """
    rng = seeds.generator(config.seed, "dream starts")
    chosen = rng.integers(0, len(latents.lengths), config.initial_frames)
    steps = rng.integers(0, np.minimum(latents.lengths, latents.ends)[chosen])
    rows = {name: getattr(latents, name)[latents.starts[chosen] + steps] for name in ("mu", "logvar")}
    states = {name: np.zeros((len(chosen), config.rnn_units), np.float16) for name in "hc"}
    step = tf.function(model.step, jit_compile=True)
    for first in range(0, len(chosen), config.rnn_batch):
        signals.stop("M's weights are saved, the frames where dreams start are missing")
        part = np.arange(first, first + config.rnn_batch) % len(chosen)
        h = c = tf.zeros((len(part), config.rnn_units))
        for t in range(steps[part].max() + 1):
            here = steps[part] == t
            states["h"][part[here]], states["c"][part[here]] = h.numpy()[here], c.numpy()[here]
            index = latents.starts[chosen[part]] + np.minimum(t, latents.lengths[chosen[part]] - 1)
            noise = rng.standard_normal((len(part), config.z_size), np.float32)
            z = sample(latents.mu[index].astype(np.float32), latents.logvar[index].astype(np.float32), noise)
            h, c = step(z, latents.action[index], np.full((len(part), 1), float(t == 0), np.float32), h, c)
    return rows | states


def encode_episodes(run: Path, config: Config, vae: VAE, mirror: tuple[float, ...] | None) -> None:
    """Encodes the run's episodes into series.npz; `mirror` as of `rnn.data.encode`."""
    compiled = tf.function(vae.encode, reduce_retracing=True)

    def encoder(obs):
        pairs = [compiled(obs[k : k + CHUNK]) for k in range(0, len(obs), CHUNK)]
        return tuple(np.concatenate([np.asarray(pair[i]) for pair in pairs]) for i in (0, 1))

    def progress(parts):
        return progress_bar(parts, desc="encoding episodes", unit="part")

    def outcome(path, frames):
        return read_outcome(path, frames, config.max_frames, tasks.get(config.task).stops_at_end)

    paths = episodes(run, config.total_episodes)
    check_episodes(paths, config)
    if not (run / "series").exists():
        frames = sum(map(episode_length, paths)) * (2 if mirror else 1)
        size = 2 * 2 * config.z_size + 4 * tasks.get(config.task).action_size + 4  # float16 and float32
        require_room(run / "series.npz", frames * size, times=2)  # and its parts, which it is joined from
    encode(run, paths, encoder, progress, outcome, mirror)
