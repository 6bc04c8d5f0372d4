"""Packed runs: made to be shared, and read-only.

`tools.pack` marks them; without the mark a folder is a run like any.
"""

import json
from pathlib import Path

from world_models.config import UserError

MARK = "packed.json"


def mark(run: Path, commit: str | None) -> None:
    """Marks a folder as packed, by the code of this commit."""
    (run / MARK).write_text(json.dumps({"commit": commit}) + "\n")


def is_packed(run: Path) -> bool:
    return (run / MARK).exists()


def require_writable(run: Path, instead: str) -> None:
    """UserError, with what to do `instead`, if the run is packed."""
    if is_packed(run):
        raise UserError(f"{run} is a packed run and read-only: {instead}; or delete {run / MARK} to write there")
