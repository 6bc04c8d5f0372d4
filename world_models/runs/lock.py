"""One command at a time in a run folder. The lock is flock on DIR/.lock, which the system releases with the process."""

import ctypes
import fcntl
import os
import signal
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from world_models.config import UserError
from world_models.progress import note
from world_models.runs import files
from world_models.runs.manifest import command

NAME = ".lock"
INHERITED = "WORLD_MODELS_LOCK"  # environment variable: the folder whose lock a stage inherits


class Lock:
    """The lock of a run folder. It makes the folder if it is new.

    A stage that the holder itself starts inherits the lock, and ends with the holder.
    """

    def __init__(self, run: Path):
        self.run, self.path = run, run / NAME
        self.number: int | None = None

    def take(self) -> None:
        """Takes the lock and removes what killed commands left. UserError if another command holds it."""
        if os.environ.get(INHERITED) == str(self.run.resolve()):
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG of Linux
            return
        self.run.mkdir(parents=True, exist_ok=True)
        # Not through a link: its target would be overwritten.
        files.require_regular(self.path)
        number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(number, 1000, 0).decode(errors="replace").partition("\n")[0]
            os.close(number)
            used = f"{self.run} is in use by {owner or 'another command'}"
            raise UserError(f"{used}; wait for its end, or choose another folder") from None
        except OSError as error:
            note(f"{self.run}: this file system has no locks ({error.strerror}); do not run two commands there at once")
        self.number = number
        files.require_own_folders(self.run)
        started = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        owner = f"{command()} (process {os.getpid()} on {socket.gethostname()}, since {started})"
        os.ftruncate(number, 0)
        os.pwrite(number, owner.encode(), 0)
        files.remove_unfinished(self.run)

    def release(self) -> None:
        """Releases the lock, if it was taken."""
        if self.number is not None:
            os.ftruncate(self.number, 0)
            os.close(self.number)
            self.number = None

    def share(self) -> dict:
        """Arguments of `subprocess.Popen` for a stage that is to work under this lock."""
        if self.number is None:
            return {}
        return {"env": os.environ | {INHERITED: str(self.run.resolve())}, "pass_fds": (self.number,)}
