"""Make the README's film: the game, V's reconstruction of it, and M's dreams from its frames; a row for each run.

    python -m tools.film pretrained/carracing pretrained/doom --out docs/film.gif

Shows the whole median episode of each run's longest test (results.json), in which the run's agent acts, as it does in
M's dreams. The film is faster than the games.
"""

from pathlib import Path

import numpy as np

from world_models import command_line, results, tasks
from world_models.config import UserError
from world_models.runs import files
from world_models.runs.run import Run
from world_models.training import quiet_tensorflow

if __name__ == "__main__":
    command_line.start()  # TensorFlow's import takes seconds, in which a signal may come
quiet_tensorflow()

from PIL import Image  # noqa: E402

from controller.lanes import make_lanes  # noqa: E402
from controller.policy import Controller  # noqa: E402
from world_models.pictures import panels  # noqa: E402
from world_models.runs.agent import read_best  # noqa: E402
from world_models.stages.evaluation import configured  # noqa: E402
from world_models.stages.film import Panel, episodes, median_seed, panels_of  # noqa: E402
from world_models.world_model import load_vae  # noqa: E402

PICTURES, FRAME = 90, 0.1  # of an episode, from its first frame to its last; seconds between two
SCALE, COLORS = 3, 128  # times as large as a frame; colours of the GIF


def row_of(run: Run) -> tuple[list[Panel], np.ndarray]:
    """A run's panels of a whole episode, and the steps shown of it."""
    config = configured(run.config, play_in="real")
    task = tasks.get(config.task)
    parameters = read_best(run, Controller.of(config).num_params)["parameters"]
    rows = [row for row in results.read(run) if results.is_headline(config, row)]
    if not rows:
        raise UserError(f"{run} has no test in the game; make one with: python evaluate.py --run {run} --save")
    row = max(rows, key=lambda row: row["episodes"])
    lanes, vae = make_lanes(run, config), load_vae(run)
    (played,) = episodes(lanes, parameters, [median_seed(row)])
    lanes.close()
    command_line.print_result(
        f"{run}: the test's median is {row['median']:.1f}, the film's episode returned {played.total:.1f}"
    )
    steps = np.linspace(0, len(played.frames) - 1, PICTURES, dtype=int)
    return panels_of(run, vae, parameters, played, task.label), steps


def picture(rows: list[tuple[list[Panel], np.ndarray]], number: int) -> Image.Image:
    """Picture `number` of the film: the rows below each other."""
    parts = []
    for shown, steps in rows:
        step = steps[number]
        frames, notes = zip(*[(panel.frames[step], panel.notes[step]) for panel in shown], strict=True)
        parts.append(panels([panel.title for panel in shown], frames, notes, SCALE))
    return Image.fromarray(np.concatenate(parts))


def palette_of(pages: list[Image.Image]) -> Image.Image:
    """The GIF's colours: they cover all shades that the pages have, also the rare ones, for those are what matters: a
    red car on grass, a fireball before a wall."""
    pixels = np.concatenate([np.asarray(page) for page in pages[:: max(1, len(pages) // 8)]])
    return Image.fromarray(pixels).quantize(COLORS, Image.Quantize.MAXCOVERAGE)


def save(path: Path, pages: list[Image.Image]) -> None:
    """Write a GIF that repeats permanently, its colours chosen once for all pages."""
    palette = palette_of(pages)
    small = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    with files.atomic_write(path) as tmp:
        small[0].save(tmp, "GIF", save_all=True, append_images=small[1:], duration=int(1000 * FRAME), loop=0)


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="run folders, a row each")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the GIF to write")
    args = parser.parse_args()
    rows = [row_of(Run(run)) for run in args.runs]
    pages = [picture(rows, number) for number in range(len(rows[0][1]))]
    save(args.out, pages)
    width, height = pages[0].size
    command_line.print_result(
        f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {len(pages)} pictures of {width}x{height}"
    )


if __name__ == "__main__":
    command_line.command(main)
