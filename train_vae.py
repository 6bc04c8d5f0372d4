"""Fits V, the variational autoencoder, to the recorded frames.

    python train_vae.py --run runs/car

Needs the episodes of extract.py. Writes vae.weights.h5, learning curves (metrics.jsonl, tensorboard/) and
pictures/reconstructions.png. Uses all cores, or a GPU; the same command again goes on from the last checkpoint.
"""

import argparse
from pathlib import Path

from world_models import command_line, seeds
from world_models.command_line import say
from world_models.config import Config
from world_models.runs import lock, run_dir
from world_models.runs.command_log import log_command
from world_models.tracking import add_flag, track
from world_models.training import hold_memory, quiet_tensorflow, save_weights, use_one_gpu

if __name__ == "__main__":
    command_line.start()  # TensorFlow's import takes seconds, in which a signal is heard
quiet_tensorflow()

import keras  # noqa: E402

from vae.data import check_episodes, episodes  # noqa: E402
from vae.train import PICTURE, begin_at_mean, fit_vae, made_from, save_reconstructions  # noqa: E402
from world_models.world_model import load_vae, make_vae  # noqa: E402


def train(run: Path, config: Config) -> None:
    paths = episodes(run, config.total_episodes)
    check_episodes(paths, config)
    keras.utils.set_random_seed(int(seeds.generator(config.seed, "vae").integers(1 << 31)))
    model = make_vae(config)
    if "vae" in config.untrained:
        save_weights(model, run / "vae.weights.h5", made_from(config))
        say(f"V: skipping training (--untrained {config.untrained})")
    else:
        if config.round > 1:
            before = run / run_dir.BEFORE
            model.set_weights(load_vae(before, run_dir.load(before)).get_weights())
        elif config.vae_bias == "mean":
            begin_at_mean(model, paths, config.seed)
        fit_vae(run, model, paths, config)
    save_reconstructions(run, model, paths, config.seed)


def run(args: argparse.Namespace) -> None:
    use_one_gpu()
    config = run_dir.open_run(args.run, command_line.overrides(args), args.base, args.after)
    run_dir.need(args.run / "record", f"python extract.py --run {args.run}")
    pictured = (args.run / PICTURE).exists() or config.models_stay
    if (args.run / "vae.weights.h5").exists() and pictured:
        load_vae(args.run, config)  # an error if it is damaged
        say(f"{args.run}/vae.weights.h5 is there already")
    elif (args.run / "vae.weights.h5").exists():  # stopped between the two, or V came from another run
        paths = episodes(args.run, config.total_episodes)
        save_reconstructions(args.run, load_vae(args.run, config), paths, config.seed)
    else:
        hold_memory()
        with log_command(args.run), track(args.track, args.run, config):
            train(args.run, config)


def main() -> None:
    parser = command_line.parser(__doc__, stage=("V",))
    add_flag(parser)
    args = parser.parse_args()
    with lock.hold(args.run):
        run(args)


if __name__ == "__main__":
    command_line.command(main)
