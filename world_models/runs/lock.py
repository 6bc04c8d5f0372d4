"""One command at a time in a run folder. The lock is flock on DIR/.lock, which the system releases with the process."""

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from world_models.config import UserError
from world_models.progress import note
from world_models.runs import files
from world_models.runs.manifest import command

NAME = ".lock"
INHERITED = "WORLD_MODELS_LOCK"  # environment variable: the descriptor of the lock that a stage inherits
LIMIT = 1 << 16  # bytes of a lock file that are read


class Lock:
    """The lock of a run folder. It makes the folder if it is new.

    A stage that the holder itself starts inherits the lock, and ends with the holder.
    """

    def __init__(self, run: Path):
        self.run, self.path = run, run / NAME
        self.number: int | None = None
        self.made: list[Path] = []  # the folders that are made for it

    def take(self) -> None:
        """Takes the lock and removes what killed commands left. UserError if another command holds it."""
        if self._inherited():
            return
        self.made = [path for path in (self.run, *self.run.parents) if not path.exists()]
        self.run.mkdir(parents=True, exist_ok=True)
        number = self._open()
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self.path.exists() or not os.path.samestat(os.fstat(number), os.stat(self.path)):
                os.close(number)  # its holder has just removed it with an empty folder
                return self.take()
        except BlockingIOError:
            owner = read(number)
            os.close(number)
            raise UserError(
                f"{self.run} is in use by {owner.get('command', 'another command')} (process "
                f"{owner.get('process', 'unknown')} on {owner.get('host', 'an unknown host')}, since "
                f"{owner.get('started', 'an unknown time')}); wait for its end, or choose another folder"
            ) from None
        except OSError as error:
            note(f"{self.run}: this file system has no locks ({error.strerror}); do not run two commands there at once")
        self.number = number
        started = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        owner = {"command": command(), "process": os.getpid(), "host": socket.gethostname(), "started": started}
        os.ftruncate(number, 0)
        os.pwrite(number, json.dumps(owner).encode(), 0)
        files.remove_unfinished(self.run)

    def release(self) -> None:
        """Releases the lock, if it was taken. A folder that was made for it and holds nothing else is removed."""
        if self.number is None:
            return
        with suppress(OSError):
            os.ftruncate(self.number, 0)
            if self.made and os.listdir(self.run) == [NAME]:
                self.path.unlink()
            for folder in self.made:
                folder.rmdir()
        os.close(self.number)
        self.number = None

    def share(self) -> dict:
        """Arguments of `subprocess.Popen` for a stage that is to work under this lock."""
        if self.number is None:
            return {}
        return {"env": os.environ | {INHERITED: str(self.number)}, "pass_fds": (self.number,)}

    def _open(self) -> int:
        """A descriptor of the lock file. UserError if the file is a link, or not a regular file: the target would be
        overwritten."""
        try:
            number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise UserError(f"{self.path}: expected a regular file; delete it") from None
            raise
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(number)
            raise UserError(f"{self.path}: expected a regular file; delete it")
        return number

    def _inherited(self) -> bool:
        """Whether this process was started by the holder of this very lock. If so it ends with the holder."""
        if (text := os.environ.get(INHERITED)) is None or not self.path.exists():
            return False
        try:
            same = os.path.samestat(os.fstat(int(text)), os.stat(self.path))
        except (ValueError, OSError):
            return False
        if same:
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG of Linux
        return same


def read(number: int) -> dict:
    """The owner that a lock file names; {} if it names none. What is not printable text is left out."""
    try:
        owner = json.loads(os.pread(number, LIMIT, 0))
    except (ValueError, RecursionError, OSError):
        return {}
    return {name: value for name, value in owner.items() if str(value).isprintable()} if isinstance(owner, dict) else {}
