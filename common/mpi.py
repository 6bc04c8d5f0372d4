"""MPI: start, fail, wait, and hand out jobs as ranks become free.

Everything works in one process too: without `mpirun`, rank 0 is alone.
"""

import os
import sys
import time
import traceback

from common import command_line
from config import UserError


class CollectiveError(UserError):
    """A UserError that every rank raises, so that each ends by itself."""


# The variables in which launchers tell each process how many there are, and its rank; and the remedy if MPI sees fewer.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "say which MPI it is: MPI4PY_MPIABI=openmpi mpirun ..."),
    ("PMI_SIZE", "PMI_RANK", "say which MPI it is: MPI4PY_MPIABI=mpich mpirun ..."),
    (
        "SLURM_STEP_NUM_TASKS",
        "SLURM_PROCID",
        "say how Slurm is to start it: srun --mpi=pmi2 ..., or pmix for Open MPI (docs/clusters.md)",
    ),
)
NESTED = "WORLD_MODELS_RANKS"  # the ranks each process is to see, where several runs are started by one launcher


def world():
    """The communicator of all ranks. Imported here, so that single-process scripts never start MPI."""
    from mpi4py import MPI

    return MPI.COMM_WORLD


def require_same_mpi(comm) -> None:
    """Ends the process if what started it started more than it sees: each would take itself for the only one, and all
    would write one run folder. It is another MPI than the one that is loaded, or Slurm without `--mpi`. The first
    prints the error. UserError if the number of nested ranks is none."""
    expected, rank, remedy = expected_ranks(os.environ)
    if expected > comm.size:
        error = UserError(
            f"{expected} processes were started, but each sees {comm.size}: the MPI that is loaded is not the "
            f"launcher's; {remedy}, or {NESTED}={comm.size} if each is to be a run of its own"
        )
        command_line.exit_with(error, quiet=rank > 0)


def expected_ranks(environ) -> tuple[int, int, str]:
    """(processes that the launcher started, this one's rank, what to do if MPI sees fewer), by its variables."""
    if NESTED in environ:
        try:
            return int(environ[NESTED]), 0, f"{NESTED} says how many"
        except ValueError:
            raise UserError(f"{NESTED}: expected a number of ranks, got {environ[NESTED]!r}") from None
    found = [(int(environ.get(size, 1)), int(environ.get(rank, 0)), remedy) for size, rank, remedy in LAUNCHERS]
    # PMIx tells a process its rank only: there are at least as many and one.
    rank = int(environ.get("PMIX_RANK", 0))
    found.append((rank + 1, rank, "say which MPI it is: MPI4PY_MPIABI=openmpi mpirun ..., or srun --mpi=pmix ..."))
    return max(found, key=lambda item: item[0])


def on_root(comm, function, *args, share: bool = True):
    """Calls `function(*args)` on rank 0; a UserError of it is raised on every rank.

    Returns its result, on every rank; with share=False, on rank 0 only, and None elsewhere.
    """
    result = error = None
    if comm.rank == 0:
        try:
            result = command_line.os_errors_as_user_errors(function, *args)
        except UserError as caught:
            error = str(caught)
        except BaseException:
            fail(comm)
    wait(comm)
    shared, error = comm.bcast((result if share else None, error))
    if error is not None:
        raise CollectiveError(error)
    return shared if share else result


def on_all_ranks(comm, function, *args):
    """Calls `function(*args)` on every rank, and returns each rank's result; if any raises a UserError, all do."""
    result = error = None
    try:
        result = command_line.os_errors_as_user_errors(function, *args)
    except UserError as caught:
        error = str(caught)
    wait(comm)
    found = [message for message in comm.allgather(error) if message]
    if found:
        raise CollectiveError(found[0])
    return result


def wait(comm, seconds: float = 0.01) -> None:
    """A barrier at which waiting ranks sleep `seconds` between two tests: MPI's own would keep their cores busy."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(seconds)


def launch(main) -> None:
    """Runs `main(comm)` on this rank.

    A UserError becomes one line and exit status 2; any other exception its traceback, whole, and the end of
    every rank.
    """
    comm = world()
    try:
        require_same_mpi(comm)
        command_line.os_errors_as_user_errors(main, comm)
    except CollectiveError as error:
        command_line.exit_with(error, quiet=comm.rank > 0)
    except UserError as error:
        if comm.size == 1:
            command_line.exit_with(error)
        print(f"error: {error} (rank {comm.rank})", file=sys.stderr, flush=True)
        abort(comm, 2)
    except (Exception, KeyboardInterrupt):
        fail(comm)


def fail(comm) -> None:
    """Prints the exception being handled and ends the job; called from an `except` block."""
    traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    if comm.size == 1:
        # As an exception would, but also past threads that still run.
        os._exit(1)
    abort(comm, 1)


def abort(comm, status: int) -> None:
    """Ends every rank, after a second in which mpirun passes on this rank's output: it drops what it has not read."""
    sys.stdout.flush()
    time.sleep(1)
    comm.Abort(status)


ASK, JOB, DONE = range(1, 4)  # message tags


class Jobs:
    """Numbers 0 .. count - 1, each handed to exactly one rank, as ranks become free.

    Rank 0 keeps the counter and works as well: it answers the others in its own calls of `take` and `serve`. A
    rank asks for as many as it has room for, works on until the answer arrives, and gets at most an even share
    of what is left, so that all are busy until nearly the end.
    """

    def __init__(self, comm, count: int):
        self.comm, self.count, self.given, self.finished = comm, count, 0, 0
        self.pending = None
        self.over = False  # whether no job is left for this rank

    def _give(self, wanted: int) -> range:
        share = -(-(self.count - self.given) // self.comm.size)
        first = self.given
        self.given += min(wanted, share)
        return range(first, self.given)

    def serve(self) -> None:
        """On rank 0, answers the requests that have arrived; elsewhere does nothing. Cheap enough for every step."""
        if self.comm.rank or self.comm.size == 1:
            return
        from mpi4py import MPI

        status = MPI.Status()
        while self.comm.iprobe(tag=ASK, status=status):
            jobs = self._give(self.comm.recv(source=status.source, tag=ASK))
            self.finished += not jobs
            self.comm.send(jobs, dest=status.source, tag=JOB)

    def take(self, wanted: int, wait: bool) -> range:
        """Up to `wanted` jobs for this rank. With `wait`, none only if there are no more: then it is `over`."""
        jobs = None
        if self.over:
            return range(0)
        if self.comm.rank == 0:
            self.serve()
            jobs = self._give(wanted)
        else:
            if self.pending is None:
                self.comm.send(wanted, dest=0, tag=ASK)
                self.pending = self.comm.irecv(source=0, tag=JOB)
            while True:
                ready, jobs = self.pending.test()
                if ready or not wait:
                    break
                time.sleep(0.0005)
            if not ready:
                return range(0)
            self.pending = None
        self.over = not jobs
        return jobs

    def close(self) -> None:
        """On rank 0, answers requests until every other rank has got the answer that no job is left."""
        if self.comm.rank == 0:
            while self.finished < self.comm.size - 1:
                self.serve()
                time.sleep(0.001)
