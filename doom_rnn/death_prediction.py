"""How well M's restart head predicts deaths, on training episodes or on held-out ones.

    python extract.py --run runs/unseen --task doom --preset laptop --seed 7 --episodes 100
    python -m doom_rnn.death_prediction --run runs/doom --of runs/unseen

An agent survives in a dream every death that M does not predict. M gets the recorded frames and actions, and
predicts a death where its restart logit is above 0, as in the dream. Prints recall (deaths predicted at their very
frame, of all deaths) and false positives (predictions at frames that are not an episode's last).
"""

from pathlib import Path

import numpy as np

import config as configs
import tasks
from common import command_line, run_dir
from common.progress import bar as progress_bar
from common.training import quiet_tensorflow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402

from vae.data import episodes, read_episode  # noqa: E402
from vae.model import sample  # noqa: E402
from world_model import load_rnn, load_vae  # noqa: E402

PART = 100  # episodes a batch, so that memory does not grow with their number


def restart_logits(rnn, z: list[np.ndarray], action: list[np.ndarray]) -> list[np.ndarray]:
    """M's restart logit after every frame of every episode.

    Args:
        rnn: M with a restart head.
        z, action: an array (T, Z) and one (T, A) an episode, of as many lengths T as there are episodes.

    Returns:
        (T,) an episode; the last is the prediction of the episode's end.
    """
    count, lengths = len(z), [len(rows) for rows in z]
    padded = [np.zeros((max(lengths), count, rows[0].shape[1]), np.float32) for rows in (z, action)]
    for k, length in enumerate(lengths):
        padded[0][:length, k], padded[1][:length, k] = z[k], action[k]

    @tf.function
    def step(z, action, restart, h, c):
        h, c = rnn.step(z, action, restart, h, c)
        return rnn.head(h)[:, 0], h, c

    h = c = tf.zeros((count, rnn.units))
    logits = []
    for t, (now, chosen) in enumerate(zip(*padded, strict=True)):
        logit, h, c = step(now, chosen, tf.fill((count, 1), float(t == 0)), h, c)
        logits.append(logit.numpy())
    return [np.stack(logits)[:length, k] for k, length in enumerate(lengths)]


def death_prediction(run: Path, other: Path) -> str:
    """Recall and false positives of `run`'s M on the episodes recorded in `other`, as text."""
    config, recorded = run_dir.load(run), run_dir.load(other)
    for path, found in ((run, config), (other, recorded)):
        if not tasks.get(found.task).restart_head:
            raise configs.UserError(f"{path} is a run of task {found.task}, whose M predicts no deaths")
    vae, rnn = load_vae(run, config), load_rnn(run, config)
    encode = tf.function(vae.encode, reduce_retracing=True)
    paths = episodes(other, recorded.episodes)
    deaths = predicted = frames = positives = 0
    for first in progress_bar(range(0, len(paths), PART), desc="predicting", unit="part"):
        zs, actions = [], []
        for number, path in enumerate(paths[first : first + PART], first):
            obs, action = read_episode(path)
            mu, logvar = encode(obs)
            zs.append(sample(mu, logvar, tf.random.stateless_normal(tf.shape(mu), [config.seed, number])).numpy())
            actions.append(action)
        for row in restart_logits(rnn, zs, actions):
            frames, positives = frames + len(row) - 1, positives + int((row[:-1] > 0).sum())
            if len(row) < recorded.max_frames:  # the others were cut
                deaths, predicted = deaths + 1, predicted + int(row[-1] > 0)
    if not deaths:
        raise configs.UserError(f"{other} holds no episode that ends in a death")
    return (
        f"deaths predicted to the frame: {predicted} of {deaths} ({predicted / deaths:.0%}); "
        f"false positives: {positives} in {frames} frames"
    )


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run whose M is evaluated")
    parser.add_argument("--of", type=Path, metavar="DIR", help="the run whose episodes it predicts (default: its own)")
    args = parser.parse_args()
    print(death_prediction(args.run, args.of or args.run))


if __name__ == "__main__":
    command_line.command(main)
