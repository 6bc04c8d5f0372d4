"""How well Doom's M foretells deaths, on episodes it learnt from or on others it has never seen.

    python extract.py --run runs/unseen --task doom --preset laptop --seed 7 --episodes 100
    python -m doom_rnn.foresight --run runs/doom --of runs/unseen

A dream is as deadly as M is good at this: an agent survives in it every death that M does not see coming. M gets
the recorded frames and actions, and foretells a death where its restart logit is above 0, as in the dream.
"""

from pathlib import Path

import numpy as np

import cli
import config as configs
import folder
from progress import bar as progress_bar
from training import quiet_tensorflow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402

from doom_rnn.models import load_rnn, load_vae  # noqa: E402
from vae.data import episodes, read_episode  # noqa: E402
from vae.model import sample  # noqa: E402

PART = 100  # episodes M sees at once, so that memory does not grow with their number


def restart_logits(rnn, z: list[np.ndarray], action: list[np.ndarray]) -> list[np.ndarray]:
    """M's restart logit after every frame of every episode.

    Args:
        rnn: Doom's M.
        z, action: an array (T, Z) and one (T, A) an episode, of as many lengths T as there are episodes.

    Returns:
        (T,) an episode; the last says whether M foretells that the episode ends here.
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


def foresight(run: Path, other: Path) -> str:
    """What `run`'s M foretells of the episodes recorded in `other`, in words."""
    config, recorded = folder.load(run), folder.load(other)
    for path, found in ((run, config), (other, recorded)):
        if found.task != "doom":
            raise configs.UserError(f"{path} is a run of task {found.task}: only Doom's M foretells deaths")
    vae, rnn = load_vae(run, config), load_rnn(run, config)
    encode = tf.function(vae.encode, reduce_retracing=True)
    paths = episodes(other, recorded.total_episodes)[recorded.linked :]
    deaths = foretold = frames = alarms = 0
    for first in progress_bar(range(0, len(paths), PART), desc="asking M", unit="part"):
        zs, actions = [], []
        for number, path in enumerate(paths[first : first + PART], first):
            obs, action = read_episode(path)
            mu, logvar = encode(obs)
            zs.append(sample(mu, logvar, tf.random.stateless_normal(tf.shape(mu), [config.seed, number])).numpy())
            actions.append(action)
        for row in restart_logits(rnn, zs, actions):
            frames, alarms = frames + len(row) - 1, alarms + int((row[:-1] > 0).sum())
            if len(row) < recorded.max_frames:  # the others were cut
                deaths, foretold = deaths + 1, foretold + int(row[-1] > 0)
    if not deaths:
        raise configs.UserError(f"{other} holds no episode that ends in a death")
    return (
        f"deaths foretold to the frame: {foretold} of {deaths} ({foretold / deaths:.0%}); "
        f"false alarms: {alarms} in {frames} frames"
    )


def main() -> None:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run whose M is asked")
    parser.add_argument("--of", type=Path, metavar="DIR", help="whose episodes it is asked about (default: its)")
    args = parser.parse_args()
    print(foresight(args.run, args.of or args.run))


if __name__ == "__main__":
    cli.command(main)
