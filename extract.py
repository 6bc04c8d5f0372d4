"""Records random episodes: the data that V and M learn from.

    python extract.py --run runs/car --task carracing --preset paper
    mpirun -n 64 python extract.py --run runs/car --task carracing

Writes DIR/record/NNNNNN.npz, one an episode: obs uint8 (T, 64, 64, 3), the frames, and action float32 (T, A),
what was done at each. The policies are the original release's, or smoother ones (--policy; see
controller/policy.py). Ranks share the
episodes; the same command again records what is missing.
"""

import cli
import folder
from controller import mpi
from controller.recording import extract, extract_held_out
from diary import noted


def main(comm) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--held-out",
        type=cli.count,
        metavar="N",
        help="record N episodes of the run's own agent in DIR/held_out, to measure V and M on (tools/held_out.py)",
    )
    args = parser.parse_args()
    config = mpi.on_leader(comm, folder.prepare, args.run, cli.overrides(args), args.base, args.after)
    with noted(args.run, comm):
        if args.held_out:
            extract_held_out(comm, args.run, config, args.held_out)
        else:
            extract(comm, args.run, config)


if __name__ == "__main__":
    mpi.launch(main)
