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

PART = 50  # episodes M sees at once, so that memory does not grow with their number
WINDOW = 50  # steps whose rewards are summed before they are compared: single ones come in bursts
EVERY = 4  # of a frame's errors in V: neighbours are alike


@lru_cache(maxsize=1)
def decoder(vae: VAE) -> Callable:
    """`vae.decode`, compiled once for all episodes, whose last parts have few frames."""
    return tf.function(vae.decode, input_signature=[tf.TensorSpec((None, vae.z_size), tf.float32)])


def v_errors(vae: VAE, obs: np.ndarray, mu: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """(T / EVERY,): the squared error of frames uint8 (T, 64, 64, 3), decoded from mu (T, Z); with a mask uint8 (T, 64,
    64) that of the pixels where it is not 0."""
    decode, errors = decoder(vae), []
    for k in range(0, len(obs), 100 * EVERY):
        part = slice(k, k + 100 * EVERY, EVERY)
        difference = obs[part] / np.float32(255) - decode(mu[part]).numpy()
        if mask is not None:
            difference *= mask[part, ..., None] > 0
        errors.append((difference**2).sum(axis=(1, 2, 3)))
    return np.concatenate(errors)


def m_outputs(
    rnn: MDNRNN, z: list[np.ndarray], action: list[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What M makes of episodes of unequal lengths T, all at once.

    Args:
        z, action: an array (T, Z) and one (T, A) an episode.

    Returns:
        An episode: (T - 1,), the negative log-likelihood of the next z, mean over its dimensions; (T,), the logit of
        "the episode ends with this step"; and (T,), its reward (zeros where M has no such head).
    """
    count, lengths = len(z), [len(rows) for rows in z]
    padded = [np.zeros((max(lengths) + 1, count, rows[0].shape[1]), np.float32) for rows in (z, action)]
    for k, length in enumerate(lengths):
        padded[0][:length, k], padded[1][:length, k] = z[k], action[k]

    @tf.function(jit_compile=True)
    def step(z, action, restart, h, c, following):
        h, c = rnn.step(z, action, restart, (h, c))
        output = rnn.head(h)
        logit = rnn.end_logit(output)[:, 0] if "end" in rnn.heads else tf.zeros(count)
        reward = rnn.reward(output)[:, 0] if "reward" in rnn.heads else tf.zeros(count)
        # As mdn.loss, a row each.
        likelihood = mdn.mixture(*rnn.split(output)).log_prob(following)
        return -tf.reduce_mean(likelihood, axis=-1), logit, reward, h, c

    h = c = tf.zeros((count, rnn.units))
    columns = []
    for t in range(max(lengths)):
        first = tf.fill((count, 1), float(t == 0))
        *outputs, h, c = step(padded[0][t], padded[1][t], first, h, c, padded[0][t + 1])
        columns.append([output.numpy() for output in outputs])
    losses, logits, rewards = (np.stack(column) for column in zip(*columns, strict=True))
    return [(losses[: n - 1, k], logits[:n, k], rewards[:n, k]) for k, n in enumerate(lengths)]


def errors(run: Run, paths: list[Path]) -> dict[str, float]:
    """V's and M's errors on these recorded episodes, by name.

    v_error, v_error_95: mean and 95th percentile of V's squared error a frame; v_error_median: of the episodes' means,
    which a single episode of frames that V has never seen does not move; of episodes with masks also v_error_masked,
    the mean on the pixels that matter. m_loss: M's, in nats a dimension of z.
    Of an end head: deaths, recall, false_positives (a share of the frames). Of a reward head: reward, reward_predicted,
    means of a step, and reward_r2, of sums over WINDOW steps; none if no episode is so long.
    """
    vae, rnn = load_vae(run), load_rnn(run)
    encode = tf.function(vae.encode, reduce_retracing=True)
    v, masked, m, ends, rewards = [], [], [], [], []
    for first in progress_bar(range(0, len(paths), PART), desc="held-out episodes", unit="part"):
        zs, actions = [], []
        for number, path in enumerate(paths[first : first + PART], first):
            obs, action = episodes.read(path)
            pairs = [encode(obs[k : k + 500]) for k in range(0, len(obs), 500)]
            mu, logvar = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
            noise = tf.random.stateless_normal(mu.shape, [run.config.seed, number])
            zs.append(sample(mu, logvar, noise).numpy())
            actions.append(action)
            v.append(v_errors(vae, obs, mu))
            if (mask := episodes.read_mask(path, len(obs))) is not None:
                masked.append(v_errors(vae, obs, mu, mask))
        outputs = m_outputs(rnn, zs, actions)
        for path, (loss, logit, predicted) in zip(paths[first : first + PART], outputs, strict=True):
            m.append(loss)
            reward, end = episodes.read_outcome(path, len(logit))
            alive = min(len(logit), end)  # steps up to the last that counts
            ends.append((logit[:alive] > 0, end <= len(logit)))
            whole = alive // WINDOW * WINDOW
            rewards.append(np.stack([reward[:whole], predicted[:whole]]).reshape(2, -1, WINDOW).sum(axis=2))
    found = {"v_error_median": float(np.median([episode.mean() for episode in v]))}
    errors = np.concatenate(v)
    found |= {"v_error": float(errors.mean()), "v_error_95": float(np.quantile(errors, 0.95))}
    if masked:
        found["v_error_masked"] = float(np.concatenate(masked).mean())
    found["m_loss"] = float(np.concatenate(m).mean())
    if "end" in rnn.heads:
        found |= end_prediction(ends)
    real, predicted = np.concatenate(rewards, axis=1) if rewards else np.zeros((2, 0))
    if "reward" in rnn.heads and real.size:
        found |= {"reward": float(real.mean() / WINDOW), "reward_predicted": float(predicted.mean() / WINDOW)}
        found["reward_r2"] = float(1 - ((real - predicted) ** 2).mean() / max(real.var(), 1e-9))
    return found


def end_prediction(episodes: list[tuple[np.ndarray, bool]]) -> dict[str, float]:
    """Recall and false positives of an end head; {} if no episode ends.

    Args:
        episodes: of each, where an end is predicted (T,), up to the step with which it ended, and whether it did.
    """
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
    if "v_error_masked" in found:
        text += f"on pixels that matter {found['v_error_masked']:.1f}; "
    text += f"M's loss {found['m_loss']:.3f}"
    if "recall" in found:
        text += f"; deaths predicted to the frame: {found['recall']:.0%} of {found['deaths']}, "
        text += f"false positives {found['false_positives']:.2%} of frames"
    if "reward" in found:
        text += f"; reward a step {found['reward']:.2f}, predicted {found['reward_predicted']:.2f}, "
        text += f"R² of {WINDOW} steps {found['reward_r2']:.2f}"
    return text
