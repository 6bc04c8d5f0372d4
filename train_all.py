"""All stages in a row: random episodes, V, M, C, and the test episodes beside the published score.

    mpirun -n 2 python train_all.py --run runs/demo --task carracing --preset smoke

Every stage is what its own script does, and is skipped as far as its result is there: the same command again
goes on where it stopped. V and M are trained by rank 0 with all cores, while the other ranks sleep.
"""

import subprocess
import sys
import time
from pathlib import Path

import cli
import config as configs
import folder
import results
from controller import evolution, mpi, recording, scoring
from diary import noted
from training import quiet_tensorflow

SLEEP = 0.5  # seconds between two looks of a rank that waits for a training


def train(comm, script: str, run: Path) -> None:
    """Runs a single-process stage as a program of its own, on rank 0: it wants every core, MPI's ranks one each."""
    failed = None
    if comm.rank == 0:
        failed = subprocess.run([sys.executable, Path(__file__).parent / script, "--run", run]).returncode
    mpi.wait(comm, SLEEP)
    failed = comm.bcast(failed)
    if failed:
        raise mpi.Shared(f"{script} ended with status {failed}; its message stands above")


def stages(comm, run: Path, config: configs.Config, episodes: int) -> dict[str, float]:
    """Runs them all; seconds by stage."""
    tests = [config.env] if config.env == "real" else ["dream", "real"]
    work = {
        "extract": lambda: recording.extract(comm, run, config),
        "vae": lambda: train(comm, "train_vae.py", run),
        "rnn": lambda: train(comm, "train_rnn.py", run),
        "controller": lambda: evolution.evolve(comm, run, config),
    }
    for env in tests:
        there = scoring.configured(config, env=env)
        work[f"test, {env}"] = lambda there=there: scoring.evaluate(
            comm, run, there, episodes, video=there.env == "real"
        )
    seconds = {}
    quiet_tensorflow()
    for name, stage in work.items():
        started = time.monotonic()
        stage()
        seconds[name] = time.monotonic() - started
    return seconds


def main(comm) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--test-episodes", type=cli.count, default=100, help="test episodes at the end (default 100)")
    args = parser.parse_args()
    config = mpi.on_leader(comm, folder.prepare, args.run, cli.overrides(args), args.base, args.after)
    with noted(args.run, comm):
        seconds = stages(comm, args.run, config, args.test_episodes)
    if comm.rank == 0:
        print()
        print(scoring.table(results.read(args.run / "results.json")))
        print("seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
        print(f"{args.run} now holds:")
        for path in sorted(args.run.rglob("*")):
            if path.is_file() and "record" not in path.parts and "tensorboard" not in path.parts:
                print(f"  {path.relative_to(args.run)}  {path.stat().st_size / 1e6:.2f} MB")
        print(f"  record/  {len(list((args.run / 'record').iterdir()))} episodes")


if __name__ == "__main__":
    mpi.launch(main)
