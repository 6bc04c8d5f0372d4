"""Encodes the recorded episodes with V, once, and fits M to them.

    python train_rnn.py --run runs/car

Needs vae.weights.h5. Writes series.npz (mu, logvar, action and reward of every frame), initial_z.npz (first frames,
where dreams start), rnn.weights.h5, dream_starts.npz (frames from anywhere, with M's state) and learning curves
(metrics.jsonl, tensorboard/). Uses all cores, or a GPU; the same command again goes on from the last checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np

from world_models import command_line, seeds, tasks
from world_models.command_line import say
from world_models.config import Config
from world_models.runs import integrity, lock, run_dir
from world_models.runs.command_log import log_command
from world_models.tracking import add_flag, track
from world_models.training import hold_memory, quiet_tensorflow, save_arrays, save_weights, use_one_gpu

if __name__ == "__main__":
    command_line.start()  # TensorFlow's import takes seconds, in which a signal is heard
quiet_tensorflow()

import keras  # noqa: E402

from rnn.data import LatentDataset  # noqa: E402
from rnn.train import FROM, dream_starts, encode_episodes, fit_rnn, made_from  # noqa: E402
from world_models.world_model import load_rnn, load_vae, make_rnn  # noqa: E402


def encoded(run: Path, config: Config) -> LatentDataset:
    """The run's episodes as V's latents: read, or made."""
    path = run / "series.npz"
    mirror = tasks.get(config.task).mirror if config.mirror == "yes" else None
    if not path.exists():
        encode_episodes(run, config, load_vae(run, config), mirror)
    episodes = config.total_episodes * (2 if mirror else 1)
    return LatentDataset.read(path, config.z_size, episodes, tasks.get(config.task).action_size)


def train(run: Path, config: Config) -> None:
    latents = encoded(run, config)
    first = latents.starts[: config.initial_frames]
    frames = {"mu": latents.mu[first].astype(np.float32), "logvar": latents.logvar[first].astype(np.float32)}
    save_arrays(run / "initial_z.npz", frames, integrity.digests(run, *FROM))
    keras.utils.set_random_seed(int(seeds.generator(config.seed, "rnn").integers(1 << 31)))
    model = make_rnn(config)
    if "rnn" in config.untrained:
        save_weights(model, run / "rnn.weights.h5", integrity.digests(run, *FROM) | made_from(config))
        say(f"M: skipping training (--untrained {config.untrained})")
        return
    if config.round > 1:
        before = run / run_dir.BEFORE
        model.take_over(load_rnn(before, run_dir.load(before)))
    fit_rnn(run, model, latents, config)
    save_starts(run, model, latents, config)


def save_starts(run: Path, model, latents: LatentDataset, config: Config) -> None:
    """Writes dream_starts.npz."""
    starts = dream_starts(model, latents, config)
    integrity.require_finite(f"M's state for {run / 'dream_starts.npz'}", starts)
    save_arrays(run / "dream_starts.npz", starts, integrity.digests(run, *FROM, "rnn"))


def has_starts(run: Path, config: Config) -> bool:
    """Whether dream_starts.npz is there, or cannot be: without latents, or with an untrained M."""
    absent = "rnn" in config.untrained or not (run / "series.npz").exists()
    return absent or (run / "dream_starts.npz").exists()


def run(args: argparse.Namespace) -> None:
    use_one_gpu()
    config = run_dir.open_run(args.run, command_line.overrides(args), args.base, args.after)
    if not (args.run / "rnn.weights.h5").exists():
        hold_memory()
        with log_command(args.run), track(args.track, args.run, config):
            train(args.run, config)
    elif not has_starts(args.run, config):  # stopped between the two, or M came from another run
        save_starts(args.run, load_rnn(args.run, config), encoded(args.run, config), config)
    else:
        load_rnn(args.run, config)  # an error if it is another V's
        say(f"{args.run}/rnn.weights.h5 is there already")


def main() -> None:
    parser = command_line.parser(__doc__, stage=("M",))
    add_flag(parser)
    args = parser.parse_args()
    with lock.hold(args.run):
        run(args)


if __name__ == "__main__":
    command_line.command(main)
