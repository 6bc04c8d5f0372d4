"""Records random episodes: the data that V and M learn from.

    python extract.py --run runs/car --task carracing --preset paper
    mpirun -n 64 python extract.py --run runs/car --task carracing

Writes DIR/record/NNNNNN.npz, one an episode: obs uint8 (T, 64, 64, 3), the frames, and action float32 (T, A),
what was done at each. The policies are the original release's, or smoother ones (--policy; see
controller/policy.py). Ranks share the
episodes; the same command again records what is missing.
"""

from common import command_line, mpi, run_dir
from common.command_log import noted
from controller.recording import extract


def main(comm) -> None:
    args = command_line.parser(__doc__).parse_args()
    config = mpi.on_leader(comm, run_dir.prepare, args.run, command_line.overrides(args), args.base)
    with noted(args.run, comm):
        extract(comm, args.run, config)


if __name__ == "__main__":
    mpi.launch(main)
