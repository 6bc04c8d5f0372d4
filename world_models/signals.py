"""Signals: a stage that is told to end finishes its step, saves what it has, and says how to go on.

SIGTERM, SIGINT (Ctrl-C), SIGUSR1 (a scheduler's warning before a job's time is over) and SIGHUP do no more than leave a
note, `received`. The loops of the stages ask for it after each step, save, and raise `Stopped`; across ranks
`world_models.mpi` agrees on it. A signal that comes later again ends the process at once.
"""

import faulthandler
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from world_models.runs import provenance

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
COMMAND = "WORLD_MODELS_COMMAND"  # environment variable: what to type again, for the stage that a command starts
AGAIN = 2.0  # seconds in which a signal is the same one: a terminal and mpirun may both pass it on

_note: list[tuple[int, float]] = []  # the signal that was received, and when
_others: list[Callable[[], object]] = []  # as of `ask`


class Stopped(Exception):
    """The end of a stage because of a signal.

    Args:
        number: the signal's.
        saved: what there is to go on from, a clause without a full stop.
    """

    def __init__(self, number: int, saved: str):
        super().__init__(number, saved)
        self.number, self.saved = number, saved

    @property
    def status(self) -> int:
        """The exit status, as a shell has it: 128 + the signal's number."""
        return 128 + self.number

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        again = os.environ.get(COMMAND) or provenance.command()
        return f"stopped by {name}: {self.saved}; the same command again: {again}"


def listen() -> None:
    """Handles the signals from now on, but those that the process was started to ignore (`nohup`).

    On a stack of their own, which faulthandler brings: oneDNN's AVX-512 kernels keep numbers where a handler's frame
    would lie on the thread's, and the process would end in a corrupted heap.
    """
    with suppress(AttributeError, OSError, ValueError):  # where stderr is closed, or no file
        faulthandler.enable()
    for number in HANDLED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def _handle(number: int, frame) -> None:
    if _note and time.monotonic() - _note[0][1] > AGAIN:
        os._exit(128 + number)
    receive(number)


def ignore() -> None:
    """Ignores the signals from now on, when the work is done. Python, as it ends, gives them back to their defaults,
    which would end the process as if it were not."""
    for number in HANDLED:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_IGN)


def receive(number: int) -> None:
    """Notes a signal; only the first counts."""
    if not _note:
        _note.append((number, time.monotonic()))


def received() -> int:
    """The number of the signal that was received; 0 if none was."""
    return _note[0][0] if _note else 0


def ask(others: Callable[[], object]) -> None:
    """From now on `stop` calls `others` first, which receives what has reached other processes."""
    _others[:] = [others]


def stop(saved: str) -> None:
    """Raises Stopped if a signal was received: for loops of one process, or of a rank that works alone."""
    for others in _others:
        others()
    if number := received():
        raise Stopped(number, saved)


def child_stopped(status: int) -> int:
    """The signal that a child's exit status tells of, as `Stopped.status` or as its death; 0 if it tells of none."""
    number = -status if status < 0 else status - 128
    return number if number in HANDLED else 0
