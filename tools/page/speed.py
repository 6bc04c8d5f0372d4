"""Measures a page's frames a second in Chromium on one core: M's step, C, V's decoder and all drawing.

    python -m tools.page.speed --site site

For each run: the rate that the page shows, which is the game's own pace as far as the core keeps up, and the rate
without that pace, where a browser stops at 60. Needs Playwright (requirements-dev.txt) and the system's Chromium.
"""

import os
import shutil
from pathlib import Path

from world_models import command_line
from world_models.config import UserError

VIEW = {"width": 1440, "height": 900}
# No dream ends: the speed does not depend on it.
ENDLESS = "state.run.max_frames = Infinity; if (state.run.end_head) state.dream.memory.headBias[0] -= 100"
LIFTED = 1000  # frames a second: more than any browser draws
COUNT = """async (seconds) => {
    const [first, start] = [state.dream.steps, performance.now()];
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    return 1000 * (state.dream.steps - first) / (performance.now() - start);
}"""


def open_dream(page, name: str) -> None:
    """Opens a run's dream on the page, which from then on plays without an end."""
    page.evaluate(f"openRun('{name}')")
    page.wait_for_function(f"state.run?.name === '{name}' && state.dream.steps > 0", timeout=120_000)
    page.evaluate(ENDLESS)
    page.wait_for_function("state.dream.steps > 40", timeout=120_000)  # the browser compiles what is run often


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--site", type=Path, required=True, metavar="DIR", help="the page, from python -m tools.page")
    parser.add_argument("--seconds", type=command_line.count, default=10, help="of each measurement (default 10)")
    args = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright  # here: it is not one of the requirements of a run
    except ImportError:
        raise UserError("Playwright is not installed; run: pip install -r requirements-dev.txt") from None
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise UserError("Chromium is not installed; on Debian run: apt-get install chromium")
    if not (index := args.site / "index.html").exists():
        raise UserError(f"{index} is missing; make it with: python -m tools.page --run RUN --out {args.site}")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # Chromium inherits it
    with sync_playwright() as driver:
        page = driver.chromium.launch(executable_path=path, args=["--no-sandbox"]).new_page(viewport=VIEW)
        page.goto(index.resolve().as_uri())
        for name in page.evaluate("RUNS.map(({ name }) => name)"):
            open_dream(page, name)
            pace = page.evaluate("state.run.fps")
            shown = page.evaluate(COUNT, args.seconds)
            page.evaluate(f"state.run.fps = {LIFTED}")
            lifted = page.evaluate(COUNT, args.seconds)
            said = f"{shown:.1f} frames/s at the game's pace of {pace}; without it {lifted:.1f}, of 60 at most"
            command_line.print_result(f"{name}, one core: {said}")


if __name__ == "__main__":
    command_line.command(main)
