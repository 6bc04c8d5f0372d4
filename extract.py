"""Records episodes of a random data-collection policy: what V and M are trained on.

    python extract.py --run runs/car --task carracing --preset paper
    mpirun -n 64 python extract.py --run runs/car --task carracing

Writes DIR/record/NNNNNN.npz, one an episode: obs uint8 (T, 64, 64, 3), the frames, and action float32 (T, A),
what was done at each. --policy chooses among the task's policies (tasks/). Ranks share the episodes; the same
command again records the missing ones.
"""

from common import command_line, mpi, run_dir
from common.command_log import log_command
from controller.recording import extract


def main(comm) -> None:
    args = command_line.parser(__doc__, quiet=comm.rank > 0).parse_args()
    config = mpi.on_root(comm, run_dir.open_run, args.run, command_line.overrides(args), args.base)
    with log_command(args.run, comm):
        extract(comm, args.run, config)


if __name__ == "__main__":
    mpi.launch(main)
