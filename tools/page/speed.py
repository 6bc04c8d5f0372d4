"""Measures a page's frames a second in Chromium on one core: M's step, C, V's decoder and all drawing.

    python -m tools.page.speed --site site

For each run: the rate that the page shows, which is the game's own pace as far as the core keeps up; the rate without
that pace, where a browser stops at 60; and the frames a second of processor time makes, whatever else runs.
"""

import os
from pathlib import Path

from tools.page.browser import chromium, processor_seconds, site
from world_models import command_line

VIEW = {"width": 1440, "height": 900}
# No dream ends: the speed does not depend on it.
ENDLESS = "state.run.max_frames = Infinity; if (state.run.end_head) state.dream.memory.headBias[0] -= 100"
LIFTED = 1000  # frames a second: more than any browser draws
COUNT = """async (seconds) => {
    const [first, start] = [state.dream.steps, performance.now()];
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    return [state.dream.steps - first, (performance.now() - start) / 1000];
}"""


def open_dream(page, name: str) -> None:
    """Opens a run's dream on the page, which from then on plays without an end."""
    page.evaluate(f"openRun('{name}')")
    page.wait_for_function(f"state.run?.name === '{name}' && state.dream.steps > 0", timeout=120_000)
    page.evaluate(ENDLESS)
    page.wait_for_function("state.dream.steps > 40", timeout=120_000)  # the browser compiles what is run often


def measure(page, seconds: float) -> tuple[float, float]:
    """Of the dream that plays, over that many seconds: frames a second, and frames a second of processor time."""
    before = processor_seconds()
    frames, passed = page.evaluate(COUNT, seconds)
    return frames / passed, frames / (processor_seconds() - before)


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--site", type=Path, required=True, metavar="DIR", help="the page, from python -m tools.page")
    parser.add_argument("--seconds", type=command_line.count, default=10, help="of each measurement (default 10)")
    args = parser.parse_args()
    index = site(args.site)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # Chromium inherits it
    with chromium() as browser:
        page = browser.new_page(viewport=VIEW)
        page.goto(index.resolve().as_uri())
        for name in page.evaluate("RUNS.map(({ name }) => name)"):
            open_dream(page, name)
            pace = page.evaluate("state.run.fps")
            shown, _ = measure(page, args.seconds)
            page.evaluate(f"state.run.fps = {LIFTED}")
            lifted, of_processor = measure(page, args.seconds)
            command_line.print_result(
                f"{name}, one core: {shown:.1f} frames/s at the game's pace of {pace}; without it "
                f"{lifted:.1f}, of 60 at most; {of_processor:.0f} a second of processor time"
            )


if __name__ == "__main__":
    command_line.command(main)
