"""Evolves C with CMA-ES, in the real environment or in M's dream of it.

    mpirun -n 64 python train_controller.py --run runs/car
    mpirun -n 64 python train_controller.py --run runs/doom --env dream --temperature 1.15

Needs V and M. Rank 0 holds CMA-ES (ask, tell); all ranks play, rank 0 too. Writes
DIR/controller/: history.jsonl (a line a generation), checkpoint.npz (CMA-ES's whole state), best.json (the
distribution's mean that scored best on fresh episodes). The same command again goes on from the last whole
generation, and --generations N beyond the last. The curves do not depend on the number of ranks.
"""

import argparse
import math

import config as configs
import tasks
from common import command_line, lock, mpi, run_dir
from common.command_log import log_command
from common.tracking import add_flag, track
from common.training import quiet_tensorflow
from controller.evolution import evolve, temperature_row


def temperatures(text: str) -> list[float]:
    """'0.1,1.15' -> [0.1, 1.15]; UserError unless all are finite and above 0."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 < value < math.inf for value in values):
        raise configs.UserError(f"--temperatures: expected numbers above 0 such as 0.1,1.15, got {text!r}")
    return values


def run(comm, args: argparse.Namespace) -> None:
    config = mpi.on_root(comm, run_dir.open_run, args.run, command_line.overrides(args), args.base, args.after)
    mpi.on_root(comm, run_dir.need_models, args.run)
    row = mpi.on_root(comm, temperatures, args.temperatures) if args.temperatures else None
    if row and not tasks.pays_in_dreams(config):
        raise mpi.CollectiveError(f"--temperatures: a dream of this run has no reward (--heads {config.heads})")
    if row and args.objective == "surprise":
        raise mpi.CollectiveError("--objective surprise: there is no row of temperatures for it; leave one of them out")
    quiet_tensorflow()
    with log_command(args.run, comm), track(args.track, args.run, config, comm):
        if row:
            temperature_row(comm, args.run, config, row, args.test_episodes)
        else:
            evolve(comm, args.run, config, args.objective)


def main(comm) -> None:
    parser = command_line.parser(__doc__, quiet=comm.rank > 0, stage=("C",))
    add_flag(parser)
    parser.add_argument(
        "--temperatures",
        metavar="T,T,...",
        help="evolve an agent in the dream at each of these, and test each in its dream and in the real environment: "
        "a row of the paper's table each, in DIR/temperature-T/results.json",
    )
    parser.add_argument(
        "--objective",
        choices=("return", "surprise"),
        default="return",
        help="what C is evolved for: the return, or in the real environment M's surprise (the paper's curiosity), into "
        "DIR/curious, for extract.py --after DIR --curious (default return)",
    )
    parser.add_argument(
        "--test-episodes", type=command_line.count, default=100, help="episodes of those tests (default 100)"
    )
    args = parser.parse_args()
    with lock.hold(args.run, comm):
        run(comm, args)


if __name__ == "__main__":
    mpi.launch(main)
