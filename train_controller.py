"""Evolves C, with CMA-ES unless --optimizer says another search, in the real environment or in M's dream of it.

    mpirun -n 64 python train_controller.py --run runs/car
    mpirun -n 64 python train_controller.py --run runs/doom --env dream --temperature 1.15

Needs V and M. Rank 0 asks the search for candidates and tells it their scores; all ranks play, rank 0 too. Writes
DIR/controller/: history.jsonl (a line a generation), checkpoint.npz (the search's whole state), best.json (the
distribution's mean that scored best on fresh episodes). The same command again goes on from the last whole
generation, and --generations N beyond the last. The curves do not depend on the number of ranks.
"""

import cli
import config as configs
import folder
from controller import mpi
from controller.evolution import evolve, temperature_row
from diary import noted
from training import quiet_tensorflow


def temperatures(text: str) -> list[float]:
    """'0.1,1.15' -> [0.1, 1.15]; UserError unless all are above 0."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) <= 0:
        raise configs.UserError(f"--temperatures: expected numbers above 0 such as 0.1,1.15, got {text!r}")
    return values


def main(comm) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--temperatures",
        metavar="T,T,...",
        help="evolve an agent in the dream at each of these, and test each in its dream and in the game: a row "
        "of the paper's table each, in DIR/temperature-T/results.json",
    )
    parser.add_argument("--test-episodes", type=cli.count, default=100, help="episodes of those tests (default 100)")
    args = parser.parse_args()
    config = mpi.on_leader(comm, folder.prepare, args.run, cli.overrides(args), args.base)
    mpi.on_leader(comm, folder.need_models, args.run)
    row = mpi.on_leader(comm, temperatures, args.temperatures) if args.temperatures else None
    if row and config.task != "doom":
        raise mpi.Shared("--temperatures: only Doom's agents are evolved in a dream")
    quiet_tensorflow()
    with noted(args.run, comm):
        if row:
            temperature_row(comm, args.run, config, row, args.test_episodes)
        else:
            evolve(comm, args.run, config)


if __name__ == "__main__":
    mpi.launch(main)
