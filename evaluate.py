"""Scores the kept agent on episodes that training never saw, and puts it beside the published scores.

    mpirun -n 64 python evaluate.py --run runs/car --episodes 100
    python evaluate.py --run runs/doom --env dream

Needs controller/best.json. Prints mean ± std, median, min and max, and how certain the mean is; writes results.json
(every episode's seed and return) and videos/ (the best, the median and the worst episode: what the agent sees, V's
reconstruction of it, a dream). Test episodes are the same for every run: --against RUN compares them one by one.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path

from world_models import command_line, mpi, tasks
from world_models import config as configs
from world_models.runs import lock, run_dir
from world_models.runs.packed import is_packed
from world_models.stages.evaluation import configured, evaluate
from world_models.training import quiet_tensorflow


def parse(quiet: bool) -> argparse.Namespace:
    parser = command_line.Parser(quiet, description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder")
    parser.add_argument(
        "--episodes", type=command_line.count, default=100, help="test episodes (default 100, as published)"
    )
    parser.add_argument("--env", choices=("real", "dream"), default="real", help="where to play (default real)")
    parser.add_argument("--view", help="the camera, where the task has several (default: the run's)")
    parser.add_argument("--temperature", type=float, help="the dream's temperature (default: the run's)")
    parser.add_argument(
        "--dtype",
        choices=configs.DTYPES,
        default="float32",
        help="arithmetic of V's encoder (default float32; bfloat16 shows what acting in it does to returns)",
    )
    parser.add_argument(
        "--against", type=Path, metavar="RUN", help="also print the differences from RUN's results on the same episodes"
    )
    parser.add_argument(
        "--save",
        action=argparse.BooleanOptionalAction,
        help="write results.json and videos/, or only print (default: write, but in a packed run only print)",
    )
    parser.add_argument("--no-video", dest="video", action="store_false", help="do not film episodes")
    return parser.parse_args()


def resolve_config(args: argparse.Namespace) -> configs.Config:
    if args.temperature is not None and args.env != "dream":
        raise configs.UserError("--temperature: the real environment has none; add --env dream")
    if args.dtype != "float32" and args.env == "dream":
        raise configs.UserError("--dtype: in a dream nothing is encoded; leave it out")
    config = run_dir.load(args.run)
    if args.view is not None and not tasks.get(config.task).views:
        raise configs.UserError(f"--view: task {config.task} has one only; leave it out")
    if args.env == "dream":  # nothing is encoded there
        run_dir.need(args.run / "rnn.weights.h5", f"python train_rnn.py --run {args.run}")
    else:
        run_dir.need_models(args.run)
    given = {
        name: value for name in ("env", "view", "temperature", "dtype") if (value := getattr(args, name)) is not None
    }
    return configured(config, **given)


def main(comm) -> None:
    args = parse(comm.rank > 0)
    config = mpi.on_root(comm, resolve_config, args)
    quiet_tensorflow()
    save = args.save
    if save is None and not (save := not is_packed(args.run)) and comm.rank == 0:
        print(f"{args.run} is a packed run: its results and films stay as they are (--save writes them)", flush=True)
    with lock.hold(args.run, comm) if save else nullcontext():
        evaluate(comm, args.run, config, args.episodes, args.video and save, save, args.against)


if __name__ == "__main__":
    mpi.launch(main)
