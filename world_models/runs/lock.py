"""One command a run folder: a lock that says who works there, and that a crash cannot leave behind.

DIR/.lock is held with flock, which the system ends with its process, however that ends; it names the process for
others to read. On a file system whose flock reaches no further than one host, a lock of another host counts while its
file is touched, as its holder does every BEAT seconds, and is taken over after STALE seconds without.
"""

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from world_models import mpi
from world_models.runs import provenance
from world_models.runs.leftovers import alive, clear, start_of
from world_models.mpi import shared_memory
from world_models.config import UserError

NAME = ".lock"
HOLDER = "WORLD_MODELS_HOLDER"  # environment variable: the process that holds the lock, for the stage it starts
BEAT, STALE = 30.0, 120.0
PATIENCE = 40  # times that a lock is read until it names its holder
LIMIT = 1 << 20  # bytes of a lock that are read
# What a lock says of its holder; it may be a stranger's file: what has another type or does not print is left out.
FIELDS = {"command": str, "host": str, "process": int, "clock": str, "started": str, "shared_memory": list}


@contextmanager
def hold(run: Path, comm=None) -> Iterator[None]:
    """Holds a run folder's lock; with a communicator on rank 0, for all ranks. Makes the folder if it is new.

    What killed commands left unfinished there is removed. UserError, on every rank, if another command holds it; but a
    stage that the holder itself has started (train_all) is let in, and ends with it.
    """
    lock = Lock(run)
    try:
        if comm is None:
            lock.take()
        else:
            mpi.on_root(comm, lock.take, share=False)
        yield
    finally:
        lock.release()


class Lock:
    """The lock of a run folder, of this process."""

    def __init__(self, run: Path):
        self.run, self.path, self.file = run, run / NAME, None
        self.made: list[Path] = []
        self.over, self.beating = threading.Event(), None

    def take(self) -> None:
        """Takes the lock; an OSError, as of a full disk, names a file."""
        try:
            self._take()
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise

    def _take(self) -> None:
        if holder := os.environ.get(HOLDER):
            end_with(int(holder))
        self.made = [path for path in (self.run, *self.run.parents) if not path.exists()]
        self.run.mkdir(parents=True, exist_ok=True)
        while True:
            file = self._open()
            held = self._held_here(file)
            if held or self._held_elsewhere(file):
                owner = owner_of(file)
                file.close()
                if is_holder(owner, holder):
                    return
                raise UserError(
                    f"{self.run} is in use by {owner.get('command', 'another command')} (process "
                    f"{owner.get('process', 'unknown')} on {owner.get('host', 'an unknown host')}, since "
                    f"{owner.get('started', 'an unknown time')}); wait for its end, or choose another folder"
                )
            if is_at(self.path, file):
                break
            file.close()  # its holder has removed it meanwhile
        self.file, last = file, read(file)
        self._write()  # before a large folder is searched: who comes meanwhile is to read whose it is
        clear(self.run, last)
        self.beating = threading.Thread(target=self._beat, args=(file.fileno(),), daemon=True)
        self.beating.start()

    def release(self) -> None:
        """Gives the lock up, as far as it was taken; a folder that was made for it and is still empty goes, too."""
        self.over.set()
        if self.beating is not None:
            self.beating.join()
        if self.file is not None:
            with suppress(OSError):  # it must not take the place of what ends the stage
                if is_at(self.path, self.file):  # else it was removed by hand, and may be another's by now
                    self.path.unlink()
            self.file.close()
            self.file = None
        for folder in self.made:
            with suppress(OSError):
                folder.rmdir()

    def _open(self):
        """The lock file, open and unbuffered, made if it is missing. UserError if it is a link or no regular file: a
        link's target would be overwritten."""
        refused = UserError(f"{self.path} is a link, or no regular file, and would be overwritten; delete it")
        try:
            number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise refused from None
            raise
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(number)
            raise refused
        return open(number, "r+b", buffering=0)  # open as long as the lock is held

    def _held_here(self, file) -> bool:
        """Whether a process holds it, as far as this file system tells; else it is held now."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no flock here: the process itself is asked for
            owner = read(file)
            return owner.get("host") == socket.gethostname() and alive(owner.get("process"), owner.get("clock"))
        return False

    def _held_elsewhere(self, file) -> bool:
        """Whether another host's process has touched it lately, by the file system's own clock."""
        if read(file).get("host") in (None, socket.gethostname()):
            return False
        with tempfile.TemporaryFile(dir=self.run) as probe:
            probe.write(b"now")
            probe.flush()
            return os.fstat(probe.fileno()).st_mtime - os.fstat(file.fileno()).st_mtime < STALE

    def _write(self) -> None:
        owner = {
            "command": provenance.command(),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "clock": start_of(os.getpid()),
            "started": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "shared_memory": shared_memory(),
        }
        text = json.dumps(owner).encode()
        self.file.seek(0)
        while text:
            text = text[self.file.write(text) :]
        self.file.truncate()

    def _beat(self, number: int) -> None:
        while not self.over.wait(BEAT):
            with suppress(OSError):
                os.utime(number)


def is_holder(owner: dict, process: str | None) -> bool:
    """Whether who holds a lock is the process of HOLDER, and not one that had its number before."""
    if process is None:
        return False
    found = (owner.get("host"), owner.get("process"), owner.get("clock"))
    return found == (socket.gethostname(), int(process), start_of(int(process)))


def end_with(parent: int) -> None:
    """Kills this process as soon as its parent is gone, which would else leave it at work in a folder that is no
    longer locked. Where there is no prctl, only if it is gone already."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG of Linux
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def is_at(path: Path, file) -> bool:
    """Whether an open file is the one that a path names. Asked by opening it: a network file system may answer `stat`
    from memory."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.path.sameopenfile(file.fileno(), number)
    finally:
        os.close(number)


def read(file) -> dict:
    """Who holds, or held, a lock file; {} if it does not say."""
    try:
        owner = json.loads(os.pread(file.fileno(), LIMIT, 0))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(owner, dict):
        return {}
    found = {}
    for name, kind in FIELDS.items():
        if isinstance(owner.get(name), kind) and str(owner[name]).isprintable():
            found[name] = owner[name]
    return found


def owner_of(file) -> dict:
    """Who holds a lock file that is held; one that has just taken it is given a moment to write its name."""
    for _ in range(PATIENCE):
        owner = read(file)
        elsewhere = owner.get("host") not in (None, socket.gethostname())
        if elsewhere or alive(owner.get("process"), owner.get("clock")):
            break
        time.sleep(0.05)  # it names no one yet, or still a process that is gone
    return owner
