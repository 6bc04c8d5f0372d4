"""Films a page for a README, by playing it in Chromium: C acts, you take over, the dream gets hotter, z is
edited, and a dream begins at a real frame.

    python -m tools.page.film --site site --seeds 25 24 --out docs/dream.gif

Needs Playwright (requirements-dev.txt) and the system's Chromium."""

import io
from pathlib import Path

from PIL import Image, ImageColor

from tools.page.browser import chromium, site
from world_models import command_line
from world_models.runs.files import atomic_write

VIEW = {"width": 1280, "height": 840}
WIDTH = 800  # of the film
PACE = 3  # steps of the dream between two pictures
# Of page.css.
COLORS = ["--ground", "--panel", "--line", "--well", "--ink", "--dim", "--v", "--m", "--c", "--z", "--end"]
MILLISECONDS = 90  # that a picture stays
BEGIN = "restart(); state.dream.start(new Draws({seed})); setPlaying(false)"


def scenes(page, seeds: list[int]):
    """Plays; yields the number of the run where a picture is to be taken."""

    def steps(number: int, pictures: int):
        for _ in range(pictures):
            page.evaluate(f"for (let k = 0; k < {PACE} && !state.dream.ended; k++) advance()")
            yield number

    for number, seed in enumerate(seeds):
        page.evaluate(f"openRun(RUNS[{number}].name)")
        page.wait_for_function(f"state.run?.name === RUNS[{number}].name && state.dream.steps > 0", timeout=120_000)
        page.evaluate(BEGIN.format(seed=seed))
        yield from steps(number, 22)
        for key in ("ArrowLeft", "ArrowRight"):  # you take over
            page.keyboard.down(key)
            page.evaluate("setPlaying(false)")
            yield from steps(number, 5)
            page.keyboard.up(key)
        for tau in (1.4, 1.7, 2.0):
            page.evaluate(f"setTemperature({tau})")
            yield from steps(number, 3)
        page.evaluate("setTemperature(state.run.temperature)")
        page.click("#strip button:last-child")  # a real frame
        yield from [number] * 6
        box = page.locator("#sliders").bounding_box()
        for share in (0.15, 0.3, 0.45, 0.6):
            page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] * (0.1 + 0.5 * share))
            page.mouse.down()
            page.mouse.up()
            yield number
        page.click("#look-own")
        yield from [number] * 2
        page.click("#look-dream")  # the dream goes on from there, and nobody moves
        page.evaluate(f"state.dream.draws = new Draws({seed}); setPlaying(false)")
        yield from steps(number, 12)
        yield from [number] * 4


def with_palette(pictures: list, colors: list[str]) -> list:
    """The pictures in 255 colours, the page's own among them; one palette for all: what stands still is free."""
    own = [channel for name in colors for channel in ImageColor.getrgb(name)]
    sheet = Image.new("RGB", (pictures[0].width, pictures[0].height * 6))
    for k in range(6):
        sheet.paste(pictures[k * (len(pictures) - 1) // 5], (0, k * pictures[0].height))
    found = sheet.quantize(255 - len(colors)).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette(own + found[: 3 * (255 - len(colors))])
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--site", type=Path, required=True, metavar="DIR", help="the page, from python -m tools.page")
    parser.add_argument(
        "--seeds", type=int, nargs="+", required=True, help="of a dream of each run, in the page's order"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the GIF to write")
    args = parser.parse_args()
    index = site(args.site)
    pictures = {}
    with chromium() as browser:
        page = browser.new_page(viewport=VIEW, color_scheme="dark")
        page.goto(index.resolve().as_uri())
        page.add_style_tag(content="#hud span:last-child { display: none }")  # it is not at its own pace here
        colors = page.evaluate(f"{COLORS}.map(color)")
        for number in scenes(page, args.seeds):
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture = picture.resize((WIDTH, WIDTH * VIEW["height"] // VIEW["width"]), Image.Resampling.LANCZOS)
            pictures.setdefault(number, []).append(picture)
    frames = [frame for group in pictures.values() for frame in with_palette(group, colors)]
    with atomic_write(args.out) as tmp:
        frames[0].save(
            tmp, "GIF", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0, optimize=True
        )
    command_line.print_result(f"{args.out}: {len(frames)} pictures, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    command_line.command(main)
