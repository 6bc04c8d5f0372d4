"""Evolves C with CMA-ES, in the real environment or in M's dream of it.

    mpirun -n 64 python train_controller.py --run runs/car
    mpirun -n 64 python train_controller.py --run runs/doom --env dream --temperature 1.15

Needs V and M. Rank 0 asks CMA-ES for candidates and tells it their scores; all ranks play, rank 0 too. Writes
DIR/controller/: history.jsonl (a line a generation), checkpoint.npz (CMA-ES's whole state), best.json (the
distribution's mean that scored best on fresh episodes). The same command again goes on from the last whole
generation. The curves do not depend on the number of ranks.
"""

import config as configs
import folder
from controller import mpi
from controller.evolution import evolve
from training import quiet_tensorflow


def main(comm) -> None:
    args = configs.parser(__doc__).parse_args()
    config = mpi.on_leader(comm, folder.prepare, args.run, configs.overrides(args), args.base)
    mpi.on_leader(comm, folder.need_models, args.run)
    quiet_tensorflow()
    evolve(comm, args.run, config)


if __name__ == "__main__":
    mpi.launch(main)
