"""V's and M's errors on episodes that neither was trained on.

V: the squared error of a frame, summed over its pixels, from mu. M: the mean negative log-likelihood of the next z;
and, where it has a head for the end, how many deaths its logit predicts to the frame (recall), and how often it
predicts one where none is (false positives).
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow as tf

from controller.policy import Controller
from rnn import mdn
from rnn.model import MDNRNN
from vae.model import VAE, sample
from world_models.progress import bar as progress_bar
from world_models.runs import episodes
from world_models.runs.agent import digest, read_best
from world_models.runs.artifacts import M, V
from world_models.runs.run import Run
from world_models.world_model import load_rnn, load_vae

WINDOW = 50  # steps whose rewards are summed before they are compared: single ones come in bursts
EVERY = 4  # of a frame's errors in V: neighbours are alike


@lru_cache(maxsize=4)
def compiled(function: Callable) -> Callable:
    """A method of V or M, compiled for all episodes, whatever their lengths."""
    return tf.function(function, reduce_retracing=True)


def v_errors(vae: VAE, obs: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """(T / EVERY,): the squared error of frames uint8 (T, 64, 64, 3), decoded from mu (T, Z)."""
    decode, errors = compiled(vae.decode), []
    for k in range(0, len(obs), 100 * EVERY):
        part = slice(k, k + 100 * EVERY, EVERY)
        difference = obs[part] / np.float32(255) - decode(tf.constant(mu[part])).numpy()
        errors.append((difference**2).sum(axis=(1, 2, 3)))
    return np.concatenate(errors)


def m_outputs(rnn: MDNRNN, z: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What M makes of an episode: z (T, Z) and action (T, A).

    Returns (T - 1,), the negative log-likelihood of the next z, mean over its dimensions; (T,), the logit of "the
    episode ends with this step"; and (T,), the reward (zeros where M has no such head).
    """
    z, action, is_first = (tf.constant(rows)[:, None] for rows in (z, action, np.eye(len(z), 1, dtype=np.float32)))
    state = tf.zeros((1, rnn.units))
    output = compiled(rnn.unroll)(z, action, is_first, (state, state))[0][:, 0]
    none = tf.zeros(len(z))
    logit = rnn.end_logit(output)[:, 0] if "end" in rnn.heads else none
    reward = rnn.reward(output)[:, 0] if "reward" in rnn.heads else none
    likelihood = mdn.mixture(*rnn.split(output[:-1])).log_prob(z[1:, 0])  # as mdn.loss, a row each
    return -tf.reduce_mean(likelihood, axis=-1).numpy(), logit.numpy(), reward.numpy()


def errors(run: Run, paths: list[Path]) -> dict[str, float]:
    """V's and M's errors on these recorded episodes, by name.

    v_error, v_error_95: mean and 95th percentile of V's squared error a frame; v_error_median: of the episodes' means,
    which a single episode of frames that V has never seen does not move. m_loss: M's, in nats a dimension of z.
    Of an end head: deaths, recall, false_positives (a share of the frames). Of a reward head: reward, reward_predicted,
    means of a step, and reward_r2, of sums over WINDOW steps; none if no episode is so long.
    """
    vae, rnn = load_vae(run), load_rnn(run)
    v, m, ends, rewards = [], [], [], []
    for number, path in enumerate(progress_bar(paths, desc="held-out episodes", unit="episode")):
        obs, action, reward, end = episodes.read(path)
        pairs = [compiled(vae.encode)(tf.constant(obs[k : k + 500])) for k in range(0, len(obs), 500)]
        mu, logvar = (np.concatenate(column) for column in zip(*pairs, strict=True))
        noise = tf.random.stateless_normal(mu.shape, [run.config.seed, number])
        v.append(v_errors(vae, obs, mu))
        loss, logit, predicted = m_outputs(rnn, sample(mu, logvar, noise).numpy(), action)
        m.append(loss)
        alive = min(len(logit), end)  # steps up to the last that counts
        ends.append((logit[:alive] > 0, end <= len(logit)))
        whole = alive // WINDOW * WINDOW
        rewards.append(np.stack([reward[:whole], predicted[:whole]]).reshape(2, -1, WINDOW).sum(axis=2))
    frames = np.concatenate(v)
    found = {
        "v_error": float(frames.mean()),
        "v_error_95": float(np.quantile(frames, 0.95)),
        "v_error_median": float(np.median([episode.mean() for episode in v])),
        "m_loss": float(np.concatenate(m).mean()),
    }
    if "end" in rnn.heads:
        found |= end_prediction(ends)
    real, predicted = np.concatenate(rewards, axis=1)
    if "reward" in rnn.heads and real.size:
        found |= {"reward": float(real.mean() / WINDOW), "reward_predicted": float(predicted.mean() / WINDOW)}
        found["reward_r2"] = float(1 - ((real - predicted) ** 2).mean() / max(real.var(), 1e-9))
    return found


def end_prediction(episodes: list[tuple[np.ndarray, bool]]) -> dict[str, float]:
    """Recall and false positives of an end head, by where it predicts the end of each episode, (T,) up to the step with
    which it ended, and whether it did; {} if no episode ends."""
    deaths = [bool(predicted[-1]) for predicted, ended in episodes if ended]
    alive = np.concatenate([predicted[: len(predicted) - ended] for predicted, ended in episodes])
    if not deaths:
        return {}
    return {"deaths": len(deaths), "recall": float(np.mean(deaths)), "false_positives": float(alive.mean())}


def held_out_episodes(run: Run) -> list[Path]:
    """The episodes in DIR/held_out. UserError that names the first that is not of the run's own agent, V and M."""
    paths = sorted((run / "held_out").glob("[0-9]*.npz"))
    agent = digest(read_best(run, Controller.of(run.config).num_params)["parameters"])
    for path in paths:
        made_from = dict(held_out=True, agent=agent, vae=run.digest(V), rnn=run.digest(M))
        episodes.check(path, run.config, int(path.stem), **made_from)
    return paths


def format_errors(found: dict[str, float]) -> str:
    """The errors as text."""
    text = f"V's squared error {found['v_error']:.1f} (95th percentile {found['v_error_95']:.1f}, the median "
    text += f"episode's {found['v_error_median']:.1f}); "
    text += f"M's loss {found['m_loss']:.3f}"
    if "recall" in found:
        text += f"; deaths predicted to the frame: {found['recall']:.0%} of {found['deaths']}, "
        text += f"false positives {found['false_positives']:.2%} of frames"
    if "reward" in found:
        text += f"; reward a step {found['reward']:.2f}, predicted {found['reward_predicted']:.2f}, "
        text += f"R² of {WINDOW} steps {found['reward_r2']:.2f}"
    return text
