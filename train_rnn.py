"""Encodes the recorded episodes with V, and trains M on them.

    python train_rnn.py --run runs/car

M needs vae.weights.h5. The command writes series.npz (mu, logvar, action and reward of every frame), initial_z.npz
(first frames, where dreams start), rnn.weights.h5 and the learning curves (metrics.jsonl, tensorboard/). It uses all
cores, or a GPU. Rerun the same command to resume; the results are identical.
"""

import numpy as np

from world_models import command_line, seeds, tasks
from world_models.command_line import print_result
from world_models.runs import files, weights
from world_models.runs.begin import open_run
from world_models.runs.run import Run
from world_models.tracking import add_flag, track
from world_models.training import hold_memory, quiet_tensorflow, use_machine

if __name__ == "__main__":
    command_line.start()  # TensorFlow's import takes seconds, in which a signal may come
quiet_tensorflow()

import keras  # noqa: E402

from rnn.data import LatentDataset  # noqa: E402
from rnn.train import encode_episodes, fit_rnn, initialize_from  # noqa: E402
from world_models.world_model import load_rnn, load_vae, make_rnn  # noqa: E402


def encoded(run: Run) -> LatentDataset:
    """The run's episodes as V's latents, which are read or made."""
    mirror = tasks.get(run.config.task).mirror if run.config.mirror == "yes" else None
    if not run.is_current("series.npz"):
        encode_episodes(run, load_vae(run), mirror)
    return LatentDataset.read(run)


def train(run: Run) -> None:
    """Trains M, or leaves it at its first weights, and keeps the frames where its dreams start."""
    files.read_lines(run / "metrics.jsonl")  # that it is broken is reported before anything is written
    config, latents = run.config, encoded(run)
    first = latents.starts[: config.initial_frames]
    with run.write("initial_z.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, mu=latents.mu[first].astype(np.float32), logvar=latents.logvar[first].astype(np.float32))
    keras.utils.set_random_seed(int(seeds.generator(config.seed, "rnn").integers(1 << 31)))
    model = make_rnn(config)
    if "rnn" in config.untrained:
        weights.save(model, run, "rnn.weights.h5")
        print_result(f"M stays untrained (--untrained {config.untrained})")
        return
    if config.round > 1:
        initialize_from(model, load_rnn(run.before))
    fit_rnn(run, model, latents)


def main() -> None:
    parser = command_line.parser(__doc__, stage=("M",))
    add_flag(parser)
    args = parser.parse_args()
    with open_run(args.run, command_line.overrides(args), base=args.base, after=args.after) as run:
        use_machine()
        if run.is_current("rnn.weights.h5"):
            load_rnn(run)  # raises an error if it is damaged
            print_result(f"{run}/rnn.weights.h5 exists")
            return
        hold_memory()
        with track(args.track, run):
            train(run)


if __name__ == "__main__":
    command_line.command(main)
