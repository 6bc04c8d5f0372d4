"""Trains V, the variational autoencoder, on the recorded frames.

    python train_vae.py --run runs/car

V needs the episodes of extract.py. The command writes vae.weights.h5, the learning curves (metrics.jsonl,
tensorboard/) and pictures/reconstructions.png. It uses all cores, or a GPU. Rerun the same command to resume; the
results are identical.
"""

from world_models import command_line, seeds
from world_models.command_line import print_result
from world_models.runs import episodes, weights
from world_models.runs.begin import open_run
from world_models.runs.run import Run
from world_models.tracking import add_flag, track
from world_models.training import hold_memory, quiet_tensorflow, use_machine

if __name__ == "__main__":
    command_line.start()  # TensorFlow's import takes seconds, in which a signal may come
quiet_tensorflow()

import keras  # noqa: E402

from vae.train import PICTURE, fit_vae, initialize_output_bias, save_reconstructions  # noqa: E402
from world_models.world_model import load_vae, make_vae  # noqa: E402


def train(run: Run) -> None:
    """Trains V, or leaves it at its first weights, and draws what it has learned."""
    config, paths = run.config, episodes.complete(run)
    keras.utils.set_random_seed(int(seeds.generator(config.seed, "vae").integers(1 << 31)))
    model = make_vae(config)
    if "vae" in config.untrained:
        weights.save(model, run, "vae.weights.h5")
        print_result(f"V stays untrained (--untrained {config.untrained})")
    else:
        if config.round > 1:
            model.set_weights(load_vae(run.before).get_weights())
        elif config.vae_bias == "mean":
            initialize_output_bias(model, paths, config.seed)
        fit_vae(run, model, paths)
    save_reconstructions(run, model, paths)


def main() -> None:
    parser = command_line.parser(__doc__, stage=("V",))
    add_flag(parser)
    args = parser.parse_args()
    with open_run(args.run, command_line.overrides(args), base=args.base, after=args.after) as run:
        use_machine()
        if not run.is_current("vae.weights.h5"):
            hold_memory()
            with track(args.track, run):
                train(run)
        elif not (run / PICTURE).exists() and not run.config.models_stay:  # stopped between the two, or V was copied
            save_reconstructions(run, load_vae(run), episodes.complete(run))
        else:
            load_vae(run)  # raises an error if it is damaged
            print_result(f"{run}/vae.weights.h5 exists")


if __name__ == "__main__":
    command_line.command(main)
