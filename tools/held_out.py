"""Measures V and M on held-out episodes, which the run's own agent has played and neither V nor M has learned from.

    mpirun -n 2 python extract.py --run runs/doom --held-out 100
    python -m tools.held_out --run runs/doom

An agent visits what random play never shows, and a dream is as good as M's predictions are there. The command prints
V's squared error for a frame, M's loss and, where M predicts the end, the recall and the false positives of deaths.
`--of` takes the new recordings of another run instead.
"""

from pathlib import Path

from world_models import command_line
from world_models.config import UserError
from world_models.runs import episodes
from world_models.runs.run import Run
from world_models.training import quiet_tensorflow

if __name__ == "__main__":
    command_line.start()  # TensorFlow's import takes seconds, in which a signal may come
quiet_tensorflow()

from world_models.stages.held_out import errors, format_errors, held_out_episodes  # noqa: E402


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run whose V and M are measured")
    parser.add_argument(
        "--of", type=Path, metavar="DIR", help="measure on this run's new recordings (default: --run's held_out)"
    )
    args = parser.parse_args()
    run = Run(args.run)
    if args.of:
        other = Run(args.of)
        for name in ("task", "view", "pixels"):
            theirs, own = getattr(other.config, name), getattr(run.config, name)
            if theirs != own:
                raise UserError(f"--of {args.of}: its {name} is {theirs}, and that of {args.run} is {own}")
        paths = episodes.complete(other)[other.config.linked_episodes :]
    else:
        paths = held_out_episodes(run)
    if not paths:
        missing = f"{run}/held_out is missing; make it with: python extract.py --run {run} --held-out 48"
        pack = f"; {run} is a pack: begin a run with --from {run}, record there, and name it with --of"
        raise UserError(missing + (pack if run.manifest.packed else ""))
    command_line.print_result(format_errors(errors(run, paths)))


if __name__ == "__main__":
    command_line.command(main)
