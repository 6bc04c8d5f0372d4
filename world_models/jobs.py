"""Jobs, handed out as ranks become free."""

import time
from typing import Any

from world_models.mpi import Comm

ASK, JOB = 1, 2  # message tags


class Jobs:
    """Numbers 0 .. count - 1, each handed to exactly one rank, as ranks become free.

    Rank 0 keeps the counter and works as well: it answers the others in its own calls of `take` and `serve`. A
    rank asks for as many as it has room for, works on until the answer arrives, and gets at most an even share
    of what is left, so that all are busy until nearly the end.
    """

    def __init__(self, comm: Comm, count: int):
        self.comm: Any = comm  # it also sends messages, where it has several ranks
        self.count, self.given = count, 0
        self.pending: Any = None  # the request for the answer of rank 0
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
        from mpi4py import MPI  # here: a process that is alone does not load it

        status = MPI.Status()
        while self.comm.iprobe(tag=ASK, status=status):
            jobs = self._give(self.comm.recv(source=status.source, tag=ASK))
            self.comm.send(jobs, dest=status.source, tag=JOB)

    def take(self, wanted: int, wait: bool) -> range:
        """Up to `wanted` jobs for this rank. With `wait`, none only if there are no more: then it is `over`."""
        if self.over:
            return range(0)
        if self.comm.rank == 0:
            self.serve()
            jobs = self._give(wanted)
        else:
            if self.pending is None:
                self.comm.send(wanted, dest=0, tag=ASK)
                self.pending = self.comm.irecv(source=0, tag=JOB)
            ready, jobs = self.pending.test()
            while wait and not ready:
                time.sleep(0.0005)
                ready, jobs = self.pending.test()
            if not ready:
                return range(0)
            self.pending = None
        self.over = not jobs
        return jobs

    def close(self) -> None:
        """Waits for the other ranks to have closed theirs; rank 0 answers their requests until then."""
        request = self.comm.Ibarrier()
        while not request.Test():
            self.serve()
            time.sleep(0.001)
