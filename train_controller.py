"""Evolves C, with CMA-ES unless --optimizer says another search, in the real environment or in M's dream of it.

    mpirun -n 64 python train_controller.py --run runs/car
    mpirun -n 64 python train_controller.py --run runs/doom --env dream --temperature 1.15
    mpirun -n 64 python train_controller.py --run runs/doom --vary temperature=0.1,0.5,1.0,1.15,1.3 seed=1,2,3

Needs V and M. Rank 0 holds the search (ask, tell); all ranks play, rank 0 too. Writes
DIR/controller/: history.jsonl (a line a generation), checkpoint.npz (the search's whole state), best.json (the
distribution's mean that scored best on fresh episodes). The same command again goes on from the last whole
generation, and --generations N beyond the last. The curves do not depend on the number of ranks.
"""

import argparse

from controller.evolution import evolve
from world_models import command_line, mpi
from world_models import config as configs
from world_models.runs import lock, run_dir
from world_models.runs.command_log import log_command
from world_models.stages import variations
from world_models.tracking import add_flag, track
from world_models.training import quiet_tensorflow


def run(comm, args: argparse.Namespace) -> None:
    given = command_line.overrides(args)
    combinations = mpi.on_root(comm, variations.parse, args.vary) if args.vary else []
    if combinations and args.objective == "surprise":
        raise mpi.CollectiveError("--objective surprise: there is no --vary for it; leave one of them out")
    if combinations and args.track:
        raise mpi.CollectiveError("--track: the curves of all agents of --vary would be one; leave one of them out")
    agents = {name: given[name] for name in configs.fields_of("C") if name in given}
    if combinations and mpi.on_root(comm, (args.run / "config.json").exists):  # what is given of C is the agents'
        given = {name: value for name, value in given.items() if name not in agents}
    config = mpi.on_root(comm, run_dir.open_run, args.run, given, args.base, args.after)
    mpi.on_root(comm, run_dir.need_models, args.run)
    quiet_tensorflow()
    with log_command(args.run, comm), track(args.track, args.run, config, comm):
        if combinations:
            variations.evolve_and_test(comm, args.run, agents, combinations, args.test_episodes)
        else:
            evolve(comm, args.run, config, args.objective)


def main(comm) -> None:
    parser = command_line.parser(__doc__, quiet=comm.rank > 0, stage=("C",))
    add_flag(parser)
    parser.add_argument(
        "--vary",
        nargs="+",
        metavar="SETTING=VALUE,VALUE",
        help="evolve an agent for each combination of these settings of C, or seeds, on the run's V and M, and test "
        "it, also in its dream if it is evolved there; each is a run in DIR/agents/. Flags of C beside it hold for all",
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
