"""Chromium without a head, for what films or measures a page."""

import contextlib
import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from world_models.config import UserError


@contextlib.contextmanager
def chromium() -> Iterator:
    """The system's Chromium, driven by Playwright; UserError if either is missing."""
    try:
        playwright = importlib.import_module("playwright.sync_api")
    except ImportError:
        raise UserError("Playwright is not installed; run: pip install -r requirements-dev.txt") from None
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise UserError("Chromium is not installed; on Debian run: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def processor_seconds() -> float:
    """Processor time that the processes below this one have used, Chromium's among them (Linux)."""
    parents, seconds = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = stat.read_text().rsplit(") ", 1)[1].split()
            number = int(stat.parent.name)
            parents[number], seconds[number] = int(fields[1]), (int(fields[11]) + int(fields[12]))
    below = {os.getpid()}
    for _ in range(6):  # generations
        below |= {number for number, parent in parents.items() if parent in below}
    return sum(seconds[number] for number in below - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def site(folder: Path) -> Path:
    """The page in a folder; UserError if there is none."""
    index = folder / "index.html"
    if not index.exists():
        raise UserError(f"{index} is missing; make it with: python -m tools.page --run RUN --out {folder}")
    return index
