"""V's and M's errors on held-out episodes: those that the run's own agent has played, and neither was trained on.

    mpirun -n 2 python extract.py --run runs/doom --held-out 100
    python -m tools.held_out --run runs/doom

An agent goes where random play has never been, and a dream is as good as M's predictions are there. Prints V's squared
error a frame, M's loss and, where M predicts the end, recall and false positives of deaths. `--of` takes another run's
new recordings instead.
"""

from pathlib import Path

from world_models import command_line
from world_models import config as configs
from world_models.runs import run_dir
from world_models.runs.packed import require_writable
from world_models.training import quiet_tensorflow

if __name__ == "__main__":
    command_line.start()  # TensorFlow's import takes seconds, in which a signal is heard
quiet_tensorflow()

from vae.data import check_episodes, episodes  # noqa: E402
from world_models.stages.held_out import errors, held_out_episodes, in_words  # noqa: E402


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run whose V and M are measured")
    parser.add_argument(
        "--of", type=Path, metavar="DIR", help="on this run's new recordings (default: --run's held_out)"
    )
    args = parser.parse_args()
    config = run_dir.load(args.run)
    if args.of:
        other = run_dir.load(args.of)
        for name in ("task", "view", "pixels"):
            theirs, own = getattr(other, name), getattr(config, name)
            if theirs != own:
                raise configs.UserError(f"--of {args.of}: a run of {name} {theirs}; {args.run} is one of {own}")
        paths = episodes(args.of, other.total_episodes)[other.linked :]
        check_episodes(paths, other)
    else:
        paths = held_out_episodes(args.run, config)
    if not paths:
        require_writable(args.run, f"record with a run of your own, --from {args.run}, and name it with --of")
        raise configs.UserError(
            f"{args.run}/held_out is missing; make it with: python extract.py --run {args.run} --held-out 48"
        )
    print(in_words(errors(args.run, config, paths)))


if __name__ == "__main__":
    command_line.command(main)
