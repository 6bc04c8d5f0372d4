"""MPI: start, fail and wait together.

Everything works in one process too: without `mpirun`, rank 0 is alone.
"""

import faulthandler
import math
import os
import re
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from world_models import command_line, interruption, limits
from world_models.config import UserError
from world_models.progress import note

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")


class Comm(Protocol):
    """What this project needs of a communicator: mpi4py's, or `Alone`. Objects are pickled between ranks."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def gather(self, value: Any, /) -> Any: ...  # a list on rank 0, None elsewhere
    def allgather(self, value: Any, /) -> list[Any]: ...
    def bcast(self, value: Any, /) -> Any: ...
    def Ibarrier(self) -> Any: ...
    def Abort(self, status: int, /) -> NoReturn: ...


class Alone:
    """A communicator of one rank, without MPI, for play in a single process."""

    rank, size = 0, 1

    def gather(self, value: Any, /) -> list[Any]:
        return [value]

    allgather = gather

    def bcast(self, value: Any, /) -> Any:
        return value

    def Ibarrier(self) -> "Alone":
        return self

    def Test(self) -> bool:
        return True

    def Abort(self, status: int, /) -> NoReturn:
        os._exit(status)


class CollectiveError(UserError):
    """A UserError that every rank raises, so that each ends by itself."""


# The variables in which launchers tell each process how many there are, and its rank; and how to start it if MPI sees
# fewer.
LAUNCHERS = {
    "OMPI_COMM_WORLD_SIZE": ("OMPI_COMM_WORLD_RANK", "MPI4PY_MPIABI=openmpi mpirun ..."),
    "PMI_SIZE": ("PMI_RANK", "MPI4PY_MPIABI=mpich mpirun ..."),
    "SLURM_STEP_NUM_TASKS": ("SLURM_PROCID", "srun --mpi=pmi2 ... (pmix for Open MPI)"),
}
NESTED = "WORLD_MODELS_RANKS"  # the ranks each process is to see, where several runs are started by one launcher
ENDING = 1.0  # seconds in which mpirun passes on a rank's output before every rank is ended
LEAVING = 20.0  # seconds that a rank which ends waits for the others to end as well
HANG = 900.0  # seconds after which a step that has not ended never will
RENEW = 5.0  # seconds between two renewals of that time limit: each starts a thread


def world() -> "MPI.Intracomm":
    """The communicator of all ranks."""
    if "OMPI_COMM_WORLD_SIZE" in os.environ:
        # Otherwise mpi4py loads the installed MPICH, which ends the process in MPI_Init.
        os.environ.setdefault("MPI4PY_MPIABI", "openmpi")
    ranks, room = limits.local_ranks(), limits.shared_memory()
    if (needed := limits.mpi_memory(ranks)) > room:
        who = f"{ranks} ranks need" if ranks > 1 else "a rank needs"
        raise UserError(
            f"{who} {needed / 1e6:.0f} MB of shared memory, and {limits.SHARED} has {room / 1e6:.0f} MB; start fewer "
            "ranks, or give the container more: docker run --shm-size=1g"
        )
    try:
        from mpi4py import MPI  # here: a process that is alone does not load it
    except (ImportError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"MPI cannot be loaded ({first}); with a cluster's own MPI, its libraries must be found: "
            "LD_LIBRARY_PATH=DIR/lib MPI4PY_MPIABI=openmpi mpirun ..."
        ) from None
    return MPI.COMM_WORLD


def unlink_shared_memory(comm: Comm) -> None:
    """Removes the name of MPICH's shared memory, so that it ends with the ranks however they end. To be called by all,
    who are attached to it by then."""
    wait(comm)
    with suppress(OSError):
        text = Path("/proc/self/maps").read_text(encoding="utf-8")
        for name in set(re.findall(rf" {limits.SHARED}/(mpich_shm_[\w.-]+)", text)):
            (limits.SHARED / name).unlink(missing_ok=True)  # another rank may be first


def require_same_mpi(comm: Comm) -> None:
    """UserError if the launcher started more processes than each sees: each would take itself for the only one. The
    launcher is of another MPI than the one that is loaded, or Slurm without `--mpi`."""
    name = max(LAUNCHERS, key=lambda name: int(os.environ.get(name, 1)))
    remedy = f"start it with {LAUNCHERS[name][1]}, or set"
    if NESTED in os.environ:
        name, remedy = NESTED, "set"
    text = os.environ.get(name, "1")
    if not text.isdecimal():
        raise UserError(f"{name}: expected a number of ranks, got {text!r}")
    if int(text) > comm.size:
        raise UserError(
            f"{text} processes were started, but each sees {comm.size}: the MPI that is loaded is not the launcher's; "
            f"{remedy} {NESTED}={comm.size} if each is to be a run of its own"
        )


def on_root(comm: Comm, function: Callable[..., T], *args: Any, share: bool = True) -> T:
    """Calls `function(*args)` on rank 0; a UserError of it is raised on every rank.

    Returns its result, on every rank; with share=False, on rank 0 only, and None elsewhere.
    """
    result: Any = None
    error: UserError | None = None
    if comm.rank == 0:
        try:
            result, error = _attempt(function, *args)
        except BaseException:
            fail(comm)
    wait(comm)
    shared, error = comm.bcast((result if share else None, error))
    if error is not None:
        raise CollectiveError(str(error))
    return shared if share else result


def on_all_ranks(comm: Comm, function: Callable[..., T], *args: Any) -> T:
    """Calls `function(*args)` on every rank, and returns each rank's result; if any raises a UserError, all do."""
    result, error = _attempt(function, *args)
    wait(comm)
    for found in filter(None, comm.allgather(error)):
        raise CollectiveError(str(found))
    return result


def _attempt(function: Callable, *args: Any) -> tuple[Any, UserError | None]:
    """What `function(*args)` returns, and None; or None, and the UserError that it raises."""
    try:
        return command_line.os_errors_as_user_errors(function, *args), None
    except UserError as error:
        return None, error


def wait(comm: Comm, seconds: float = 0.01) -> None:
    """A barrier at which waiting ranks sleep `seconds` between two tests: MPI's own would keep their cores busy."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(seconds)


@contextmanager
def hang_limit(comm: Comm) -> Iterator[Callable[[], None]]:
    """Context manager for a loop that yields a function to be called after every step: a step that takes longer than
    HANG prints where it hangs and ends the process; mpirun then ends the others. Not in a process that is alone."""
    renewed = -math.inf

    def within_limit() -> None:
        nonlocal renewed
        now = time.monotonic()
        if comm.size > 1 and now - renewed >= RENEW:
            faulthandler.dump_traceback_later(HANG, exit=True)
            renewed = now

    within_limit()
    try:
        yield within_limit
    finally:
        faulthandler.cancel_dump_traceback_later()


def launch(main: Callable) -> None:
    """Runs `main(comm)` on this rank.

    A UserError becomes one line and exit status 2, any other exception its traceback and the end of every rank. A
    signal ends every rank (see `interruption.end`).
    """
    command_line.start()
    try:
        comm = world()
        require_same_mpi(comm)
    except UserError as error:
        command_line.exit_with(error, quiet=any(os.environ.get(rank, "0") != "0" for rank, _ in LAUNCHERS.values()))
    interruption.listen()  # again: MPICH puts its own handler, which has no separate stack, before SIGUSR1's
    if comm.size > 1:
        interruption.end_together(comm.rank, lambda status: abort(comm, status))
    others = comm.Dup() if comm.size > 1 else comm  # of its own: other barriers may be under way
    unlink_shared_memory(others)
    try:
        command_line.os_errors_as_user_errors(main, comm)
    except CollectiveError as error:
        command_line.exit_with(error, quiet=comm.rank > 0)
    except UserError as error:
        if comm.size == 1:
            command_line.exit_with(error)
        if comm.rank > 0:
            time.sleep(2 * ENDING)  # rank 0 may have failed for the same reason: its line is enough
        command_line.report(f"error: {error} (rank {comm.rank})")
        abort(comm, 2)
    except SystemExit as ended:
        leave(others, ended.code)
    except BaseException:
        fail(comm)
    finally:
        command_line.close_output()
        interruption.ignore()


def leave(comm: Comm, status: object) -> None:
    """Exits with a status, together with the other ranks: if one of them does not end as well, ends it."""
    request = comm.Ibarrier()
    deadline = time.monotonic() + LEAVING
    while not request.Test():
        if time.monotonic() > deadline:
            note(f"rank {comm.rank} has ended, others have not: ending them")
            abort(comm, status if isinstance(status, int) and status else 1)
        time.sleep(0.01)
    raise SystemExit(status)


def fail(comm: Comm) -> None:
    """Prints the exception being handled and ends the job; called from an `except` block."""
    note(traceback.format_exc().rstrip("\n"))
    if comm.size == 1:
        command_line.close_output()
        # As an exception would, but also past threads that still run.
        os._exit(1)
    abort(comm, 1)


def abort(comm: Comm, status: int) -> None:
    """Ends every rank, after mpirun had the time to pass on this rank's output: it drops what it has not read."""
    command_line.close_output()
    time.sleep(ENDING)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI would print a line of its own, also where that is no news
    comm.Abort(status)
