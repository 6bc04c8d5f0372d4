"""Records the episodes that V and M learn from: of a random policy in the first round, of the agent in later rounds.

    mpirun -n 64 python extract.py --run runs/car --task carracing --preset paper
    mpirun -n 64 python extract.py --run runs/car-2 --after runs/car --episodes 300

The command writes DIR/record/NNNNNN.npz, an episode in each file: obs uint8 (T, 64, 64, 3), the frames; action float32
(T, A), what was done at each frame; reward float32 (T,), what it earned; and end (), after how many steps the episode
was over. --policy chooses among the policies of the task. The ranks share the episodes. Rerun the same command to
record the missing ones.
"""

from world_models import command_line, mpi
from world_models.runs.begin import open_run
from world_models.stages.recording import extract, extract_held_out


def main(comm) -> None:
    parser = command_line.parser(__doc__, quiet=comm.rank > 0, stage=("environment", "data", "round"))
    text = "record N episodes of the run's own agent in DIR/held_out, to measure V and M on (tools/held_out.py)"
    parser.add_argument("--held-out", type=command_line.count, metavar="N", help=text)
    args = parser.parse_args()
    with open_run(args.run, command_line.overrides(args), comm, base=args.base, after=args.after) as run:
        if args.held_out:
            extract_held_out(comm, run, args.held_out)
        else:
            extract(comm, run)


if __name__ == "__main__":
    mpi.launch(main)
