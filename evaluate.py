"""Scores the kept agent on episodes that training never saw, and puts the score next to the published ones.

    mpirun -n 64 python evaluate.py --run runs/car --episodes 100
    python evaluate.py --run runs/doom --play-in dream

The agent is controller/best.json. The command prints mean ± standard deviation, median, minimum and maximum, and how
certain the mean is. It writes results.json (the seed and the return of every episode) and videos/ (the best, the median
and the worst episode: what the agent sees, V's reconstruction of it, and a dream). The test episodes are the same for
every run: --against RUN compares them one by one. Rerun an interrupted test to resume it.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path

from world_models import command_line, mpi, tasks
from world_models import config as configs
from world_models.config import UserError
from world_models.runs.artifacts import M, V
from world_models.runs.begin import open_run
from world_models.runs.run import Run
from world_models.stages.evaluation import configured, evaluate
from world_models.training import quiet_tensorflow


def parse(quiet: bool) -> argparse.Namespace:
    parser = command_line.Parser(quiet, description=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, metavar="DIR", help="the run folder")
    add("--episodes", type=command_line.count, default=100, help="test episodes (default 100, as published)")
    add("--play-in", choices=("real", "dream"), default="real", help="where to play (default real)")
    add("--view", help="the camera, if the task has several (default: the run's)")
    add("--variant", help="a changed picture, to test generalisation: colour, bars, blob; walls, floor, text")
    add("--temperature", type=float, help="the dream's temperature (default: the run's)")
    add("--z", choices=("sampled", "mean"), help="what C and M receive of a frame (default: the run's)")
    text = "the arithmetic of V's encoder (default float32; bfloat16 shows what it does to returns)"
    add("--dtype", choices=configs.DTYPES, default="float32", help=text)
    text = "also print the differences from RUN's results on the same episodes"
    add("--against", type=Path, metavar="RUN", help=text)
    text = "write results.json and videos/, or only print (default: write, except in a pack)"
    add("--save", action=argparse.BooleanOptionalAction, help=text)
    add("--no-video", dest="video", action="store_false", help="do not film episodes")
    return parser.parse_args()


def resolve_config(run: Run, args: argparse.Namespace) -> configs.Config:
    """The settings of the test. UserError if a flag does not fit, or if V or M is missing."""
    if args.temperature is not None and args.play_in != "dream":
        raise UserError("--temperature: the real environment has none; add --play-in dream")
    if args.play_in == "dream" and (args.dtype != "float32" or args.z is not None or args.variant is not None):
        raise UserError("--dtype, --z, --variant: nothing is encoded in a dream; leave them out")
    if args.view is not None and not tasks.get(run.config.task).views:
        raise UserError(f"--view: task {run.config.task} has one camera only; leave it out")
    for name in (M,) if args.play_in == "dream" else (V, M):
        run.need(name)
    names = ("play_in", "view", "variant", "temperature", "dtype", "z")
    return configured(run.config, **{name: value for name in names if (value := getattr(args, name)) is not None})


def main(comm) -> None:
    args = parse(comm.rank > 0)
    packed = mpi.on_root(comm, lambda: Run(args.run).manifest.packed)
    save = args.save if args.save is not None else not packed
    if args.save is None and packed and comm.rank == 0:
        command_line.print_result(f"{args.run} is a pack: its results and films stay as they are (see --save)")
    with open_run(args.run, {}, comm, pack=True) if save else nullcontext(Run(args.run)) as run:
        config = mpi.on_root(comm, resolve_config, run, args)
        quiet_tensorflow()
        evaluate(comm, run, config, args.episodes, args.video and save, save, args.against)


if __name__ == "__main__":
    mpi.launch(main)
