"""Make the README's film: the game, V's reconstruction of it, and dreams of M, side by side; a row for each run.

    python -m tools.film pretrained/carracing pretrained/doom --out docs/film.gif

Shows SECONDS of each run's best test episode in the game (results.json), and half as much of each of two dreams, after
their first AWAKE steps. The run's agent acts in all of them. Where an episode is brightest there is most to see, in
CarRacing the kerbs of sharp curves, in Doom fireballs: that stretch of the game is shown.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

import tasks
from common import command_line, results, run_dir
from common.training import quiet_tensorflow

quiet_tensorflow()

from PIL import Image, ImageDraw, ImageFont  # noqa: E402

from common.pictures import to_uint8  # noqa: E402
from controller.agent_file import read_best  # noqa: E402
from controller.evaluation import configured  # noqa: E402
from controller.film import dream, episode  # noqa: E402
from controller.policy import Controller  # noqa: E402
from controller.rollout import make_lanes  # noqa: E402
from world_model import load_vae  # noqa: E402

SECONDS, FRAME = 6.4, 0.08  # shown of an episode; between two pictures
AWAKE = 40  # CarRacing begins with a zoom
BRIGHT = 170  # of 255: brighter than grass and walls
SIZE, BAR, GAP, COLORS = 192, 22, 4, 96  # pixels of a panel, of its title, between panels; colours of the GIF
INK, PAPER = (20, 20, 20), (255, 255, 255)


def stretch(frames: np.ndarray, fps: int) -> np.ndarray:
    """The frames shown of an episode (T, 64, 64, 3): the SECONDS with most bright pixels."""
    steps = (np.arange(0, SECONDS, FRAME) * fps).astype(int)
    bright, first = np.cumsum((frames.mean(axis=-1) > BRIGHT).sum(axis=(1, 2))), 0
    if len(frames) > steps[-1]:
        first = int(np.argmax(bright[steps[-1] :] - bright[: len(bright) - steps[-1]]))
    return frames[np.minimum(first + steps, len(frames) - 1)]


def panels(run: Path) -> tuple[list[str], list[np.ndarray]]:
    """(titles, frames uint8 (T, 64, 64, 3)) of a run's three panels."""
    config = dataclasses.replace(configured(run_dir.load(run), env="real"), lanes=1)
    task = tasks.get(config.task)
    parameters = read_best(run / "controller", Controller.of(config).num_params)["parameters"]
    row = next(row for row in results.read(run / "results.json") if row["env"] == "real")
    lanes, vae = make_lanes(run, config), load_vae(run, config)
    frames, total = episode(lanes, parameters, row["seeds"][int(np.argmax(row["returns"]))])
    lanes.close()
    print(f"{run}: the test's best episode returned {max(row['returns']):.1f}, the film's {total:.1f}")
    shown = stretch(frames, task.fps)
    seen = to_uint8(vae.decode(vae.encode(shown)[0]).numpy())
    steps = AWAKE + (np.arange(0, SECONDS / 2, FRAME) * task.fps).astype(int)
    dreams = [dream(run, config, parameters, seed, steps[-1] + 1).frames for seed in row["seeds"][:2]]
    dreamed = np.concatenate([film[np.minimum(steps, len(film) - 1)] for film in dreams])
    return [task.label, "V's reconstruction", "M's dreams"], [shown, seen, dreamed]


def page(rows: list[tuple[list[str], list[np.ndarray]]], number: int) -> Image.Image:
    """Picture `number` of the film."""
    width = max(len(titles) for titles, _ in rows) * (SIZE + GAP) - GAP
    image = Image.new("RGB", (width, len(rows) * (BAR + SIZE + GAP) - GAP), PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    for y, (titles, films) in enumerate(rows):
        for x, (title, frames) in enumerate(zip(titles, films, strict=True)):
            left, top = x * (SIZE + GAP), y * (BAR + SIZE + GAP)
            draw.text((left + 2, top + 2), title, INK, font)
            panel = Image.fromarray(frames[number]).resize((SIZE, SIZE), Image.Resampling.NEAREST)
            image.paste(panel, (left, top + BAR))
    return image


def save(path: Path, pages: list[Image.Image]) -> None:
    """Write a GIF that repeats for ever, its colours chosen once for all pages."""
    pixels = np.concatenate([np.asarray(page) for page in pages[:: max(1, len(pages) // 8)]]).reshape(-1, 3)
    bright = pixels[(pixels.mean(axis=1) > BRIGHT) & (pixels.min(axis=1) < 250)]  # few, but they are what matters
    pixels = np.concatenate([pixels, np.resize(bright, (len(pixels) // 10, 3))]) if len(bright) else pixels
    palette = Image.fromarray(pixels[None]).quantize(COLORS)
    small = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    with run_dir.atomic_write(path) as tmp:
        small[0].save(tmp, "GIF", save_all=True, append_images=small[1:], duration=int(1000 * FRAME), loop=0)


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="run folders, a row each")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the GIF to write")
    args: argparse.Namespace = parser.parse_args()
    rows = [panels(run) for run in args.runs]
    pages = [page(rows, number) for number in range(len(rows[0][1][0]))]
    save(args.out, pages)
    size = f"{pages[0].width}x{pages[0].height}"
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {len(pages)} pictures of {size}")


if __name__ == "__main__":
    command_line.command(main)
