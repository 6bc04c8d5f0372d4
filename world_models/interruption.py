"""Signals: SIGTERM, SIGINT (Ctrl-C), SIGUSR1 (a scheduler's warning) and SIGHUP end a command at once.

Nothing is saved at that moment. Every command resumes to identical numbers from what it had saved before.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from world_models.progress import close_bars, note
from world_models.runs.manifest import command

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
CHILD = "WORLD_MODELS_CHILD"  # environment variable of a stage whose parent says how to resume
LIMIT = 4.5  # seconds after which a process that was told to end has ended

_watched: list[int] = []  # the pipe's end that signals write to
_ending = threading.Lock()  # held from the first call of `end`
_rank = [0]
_abort: list[Callable[[int], object]] = [os._exit]


def listen() -> None:
    """Handles the signals from now on, except those that the process was started to ignore (`nohup`).

    Python runs handlers in the main thread, between two bytecodes, and a call of TensorFlow may take minutes. A thread
    therefore ends the process. Python's signal handler in C wakes the thread through a pipe.

    That handler needs the stack that faulthandler allocates: oneDNN's AVX-512 kernels keep numbers beyond the end of
    the main thread's stack, where a handler's frame would overwrite them.
    """
    with suppress(AttributeError, OSError, ValueError):  # stderr is closed, or is not a file
        faulthandler.enable()
    if not _watched:
        read, write = os.pipe()
        os.set_blocking(write, False)
        _watched.append(write)
        threading.Thread(target=_watch, args=(read,), daemon=True).start()
    signal.set_wakeup_fd(_watched[0], warn_on_full_buffer=False)
    for number in HANDLED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def _handle(number: int, frame) -> None:
    """Does nothing: with the default action the signal would end the process without a message."""


def _watch(read: int) -> None:
    while True:
        (number,) = os.read(read, 1)
        if number in HANDLED:
            end(number)


def ignore() -> None:
    """Ignores the signals from now on: the work is done. Python restores the default actions as it exits, and a signal
    would then end the process with another status."""
    for number in HANDLED:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_IGN)


def end_together(rank: int, abort: Callable[[int], object]) -> None:
    """Sets how `end` ends a job of several ranks: abort(status) ends all of them."""
    _rank[0], _abort[0] = rank, abort


def end(number: int) -> None:
    """Ends every rank with status 128 + `number`, and says in one line how to resume. Never returns.

    A signal may reach any number of ranks, but one line is enough. Ranks other than 0 therefore wait, by their number:
    a rank that was told too and has a lower number ends them in that time.
    """
    _ending.acquire()  # a second caller waits here for the end
    status = 128 + number
    limit = threading.Timer(LIMIT, os._exit, (status,))
    limit.daemon = True
    limit.start()
    if _rank[0]:
        time.sleep(2 + min(_rank[0] / 10, 1))
    if CHILD not in os.environ:
        close_bars()
        name = signal.Signals(number).name
        note(f"stopped by {name}; rerun the same command to resume: python {command(shared=False)}")
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    _abort[0](status)


def child_signal(status: int) -> int:
    """The signal that a child's exit status stands for: 128 + its number, or its negative; 0 if for none."""
    number = -status if status < 0 else status - 128
    return number if number in HANDLED else 0
