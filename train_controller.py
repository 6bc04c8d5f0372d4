"""Evolves C by CMA-ES, unless --optimizer names another search, in the real environment or in M's dream of it.

    mpirun -n 64 python train_controller.py --run runs/car
    mpirun -n 64 python train_controller.py --run runs/doom --play-in dream --temperature 1.15
    mpirun -n 64 python train_controller.py --run runs/doom --vary temperature=0.1,0.5,1.0,1.15,1.3 seed=1,2,3

C needs V and M. Rank 0 holds the search (ask, tell); all ranks play, rank 0 too. The command writes DIR/controller/:
history.jsonl (a line for each generation), checkpoint.npz (the whole state of the search) and best.json (the agent
that scored best on fresh episodes). Rerun the same command to resume from the last generation, or add --generations N
to go on beyond the last. The curves do not depend on the number of ranks.
"""

import argparse

from controller.evolution import evolve
from world_models import command_line, mpi
from world_models import config as configs
from world_models.runs.artifacts import M, V
from world_models.runs.begin import open_run
from world_models.stages import variations
from world_models.tracking import add_flag, track
from world_models.training import quiet_tensorflow


def parse(quiet: bool) -> argparse.Namespace:
    parser = command_line.parser(__doc__, quiet=quiet, stage=("C",))
    add_flag(parser)
    text = (
        "evolve an agent for each combination of these settings of C, or seeds, on the run's V and M, and test it, "
        "also in its dream if it is evolved there; each is a run in DIR/agents/. Values of rollouts are separated by "
        "'/'. Flags of C apply to all agents"
    )
    parser.add_argument("--vary", nargs="+", metavar="SETTING=VALUE,VALUE", help=text)
    text = (
        "what C is evolved for: the return, or in the real environment M's surprise (the paper's curiosity), into "
        "DIR/curious, for extract.py --after DIR --curious-share (default return)"
    )
    parser.add_argument("--objective", choices=("return", "surprise"), default="return", help=text)
    text = "episodes of those tests (default 100)"
    parser.add_argument("--test-episodes", type=command_line.count, default=100, help=text)
    return parser.parse_args()


def main(comm) -> None:
    args = parse(comm.rank > 0)
    given = command_line.overrides(args)
    combinations = mpi.on_root(comm, variations.parse, args.vary) if args.vary else []
    if combinations and args.objective == "surprise":
        raise mpi.CollectiveError("--objective surprise: there is no --vary for it; leave one of them out")
    if combinations and args.track:
        raise mpi.CollectiveError("--track: the curves of all agents of --vary would be one; leave one of them out")
    agents = {name: given[name] for name in configs.fields_of("C") if name in given}
    if combinations and mpi.on_root(comm, (args.run / "config.json").exists):  # flags of C are the agents'
        given = {name: value for name, value in given.items() if name not in agents}
    with open_run(args.run, given, comm, base=args.base, after=args.after) as run:
        mpi.on_root(comm, lambda: [str(run.need(model)) for model in (V, M)])
        quiet_tensorflow()
        with track(args.track, run, comm):
            if combinations:
                variations.evolve_and_test(comm, run, agents, combinations, args.test_episodes)
            else:
                evolve(comm, run, args.objective)


if __name__ == "__main__":
    mpi.launch(main)
