"""How a tool starts ranks of its own."""

import shutil
import sys
from pathlib import Path

from world_models.config import UserError


def mpirun(ranks: int) -> list[str]:
    """The beginning of a command on `ranks` ranks: of the mpirun next to this Python, or of the system's. UserError if
    there is neither."""
    own = Path(sys.executable).parent / "mpirun"
    if found := str(own) if own.exists() else shutil.which("mpirun"):
        return [found, "-n", str(ranks)]
    raise UserError("mpirun is not installed; on Linux pip install -r requirements.txt brings it")
