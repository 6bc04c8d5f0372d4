"""What goes to stderr: lines, and progress bars with time left, lively in a terminal, a line now and then in a log."""

import os
import sys
from contextlib import suppress
from typing import Any

from tqdm import tqdm

from world_models.text import printable

silenced: list[int] = []  # where stderr leads while a library is silent (`quiet.silent`), the last one counts


class Stderr:
    """stderr, but what cannot be written is lost without an error: a stage outlives a full disk or a reader that has
    gone."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            if silenced:
                os.write(silenced[-1], text.encode(errors="replace"))
            else:
                sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def note(text: str) -> None:
    """Prints a line on stderr, as far as that can be written. Text from files cannot steer the terminal."""
    print(printable(text, keep="\n\t"), file=Stderr(), flush=True)


def close_bars() -> None:
    """Ends the lines of the bars that are still open, so that a message after them begins a line of its own."""
    for one in list(tqdm._instances):
        one.close()


def bar(*args: Any, **options: Any) -> tqdm:
    """tqdm; in a log it writes every 30 seconds instead of ten times a second."""
    if not sys.stderr.isatty():
        options = {"mininterval": 30.0, "maxinterval": 60.0, **options}
    return tqdm(*args, file=Stderr(), dynamic_ncols=True, **options)
