"""The log of a run's commands: which made it, when, on what machine, and how long each took."""

import json
import platform
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from world_models.runs import provenance
from world_models.runs.integrity import is_count, is_number, is_text, mistyped, read_json
from world_models.runs.storage import write_text
from world_models.config import UserError

KINDS = {
    "command": is_text,
    "ranks": is_count,
    "hardware": is_text,
    "started": is_text,
    "seconds": is_number,
    "ended": lambda value: type(value) is bool,
}
BEAT = 60  # seconds between two writes: at most this much of a killed command's time is lost


class log_command:
    """Context manager: logs this process's command in DIR/commands/, one file a command.

    Written when the command begins and once a minute, so that a killed one has its time too; `ended` is whether
    it ended without an exception. With a communicator only rank 0 writes. A disk that is full by then costs the time,
    not the stage: only the first write raises an OSError.
    """

    def __init__(self, run: Path, comm=None):
        self.silent = comm is not None and comm.rank > 0
        now = datetime.now(UTC)
        script = Path(sys.argv[0]).name
        self.path = run / "commands" / f"{now:%Y%m%dT%H%M%S}-{Path(script).stem}.json"
        self.line = {
            "command": provenance.command(),
            "ranks": comm.size if comm is not None else 1,
            "hardware": processor(),
            "started": f"{now:%Y-%m-%d %H:%M} UTC",
            "seconds": 0.0,
            "ended": False,
        }
        if not self.silent:
            self.line |= provenance.record()
        self.over = threading.Event()
        self.clock = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self):
        self.start = time.monotonic()
        if not self.silent:
            self._write()
            self.clock.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        if not self.silent:
            self.over.set()
            self.clock.join()
            self.line["ended"] = kind is None
            with suppress(OSError):
                self._write()

    def _beat(self) -> None:
        while not self.over.wait(BEAT):
            with suppress(OSError):
                self._write()

    def _write(self) -> None:
        self.line["seconds"] = round(time.monotonic() - self.start, 1)
        write_text(self.path, json.dumps(self.line) + "\n")


def read(run: Path) -> list[dict]:
    """The commands of a run, in the order in which they began. UserError naming a file that does not hold one."""
    found = []
    for path in sorted((run / "commands").glob("[0-9]*.json")):
        found.append(read_json(path))
        if wrong := mistyped(found[-1], KINDS):
            raise UserError(f"{path} does not hold a command: {wrong}; move it away")
    return found


def processor() -> str:
    """The processor's name, family, model and number of cores, as far as the system has them: clouds hide a part."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found: dict[str, list[str]] = {}
    for name, _, value in (line.partition(":") for line in lines):
        found.setdefault(name.strip(), []).append(value.strip())
    if "model name" not in found:
        return platform.machine()
    kind = f" (family {found['cpu family'][0]}, model {found['model'][0]})" if "cpu family" in found else ""
    return f"{found['model name'][0]}{kind}, {len(found['model name'])} cores"
