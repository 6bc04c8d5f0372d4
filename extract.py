"""Records the episodes that V and M are trained on, of a random data-collection policy; in later rounds, of the agent.

    mpirun -n 64 python extract.py --run runs/car --task carracing --preset paper
    mpirun -n 64 python extract.py --run runs/car-2 --after runs/car --episodes 300

Writes DIR/record/NNNNNN.npz, one an episode: obs uint8 (T, 64, 64, 3), the frames, and action float32 (T, A),
what was done at each, reward float32 (T,), what it earned, and end (), after how many steps the episode was over.
--policy chooses among the task's policies (tasks/). Ranks share the episodes; the same command again records the
missing ones.
"""

from world_models import command_line, mpi
from world_models.runs import lock, run_dir
from world_models.runs.command_log import log_command
from world_models.stages.recording import extract, extract_held_out


def main(comm) -> None:
    parser = command_line.parser(__doc__, quiet=comm.rank > 0, stage=("environment", "data", "round"))
    parser.add_argument(
        "--held-out",
        type=command_line.count,
        metavar="N",
        help="record N episodes of the run's own agent in DIR/held_out, to evaluate V and M on (tools/held_out.py)",
    )
    args = parser.parse_args()
    with lock.hold(args.run, comm):
        config = mpi.on_root(comm, run_dir.open_run, args.run, command_line.overrides(args), args.base, args.after)
        with log_command(args.run, comm):
            if args.held_out:
                extract_held_out(comm, args.run, config, args.held_out)
            else:
                extract(comm, args.run, config)


if __name__ == "__main__":
    mpi.launch(main)
