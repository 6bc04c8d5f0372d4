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


# Prefixes of the environment variables in which an mpirun gives rank and number of processes; and its MPI's ABI.
LAUNCHERS = {"OMPI_COMM_WORLD": "openmpi", "PMI": "mpich"}


def world():
    """The communicator of all ranks. Imported here, so that single-process scripts never start MPI."""
    from mpi4py import MPI

    return MPI.COMM_WORLD


def require_same_mpi(comm) -> None:
    """Ends the process if the mpirun that started it is not of the MPI it has loaded: each process would take itself
    for the only one, and all would write one run folder. The first prints the error."""
    for start, name in LAUNCHERS.items():
        size = int(os.environ.get(f"{start}_SIZE", 1))
        if size > comm.size:
            error = UserError(
                f"mpirun started {size} processes, but each sees {comm.size}: the MPI that is loaded is not this "
                f"mpirun's; say which one it is: MPI4PY_MPIABI={name} mpirun ..."
            )
            command_line.exit_with(error, quiet=os.environ.get(f"{start}_RANK", "0") != "0")


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
    require_same_mpi(comm)
    try:
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
