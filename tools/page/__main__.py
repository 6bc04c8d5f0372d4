"""A page in which runs' dreams are played, by you or by their agents. It opens from a file, without a server.

    python -m tools.page --run pretrained/doom pretrained/carracing --out site

Writes site/index.html, its scripts, and site/runs/NAME.js for each run: V's decoder, M and C in float16, first frames,
and a real episode as a film, some of its frames with their z: the median episode of the agent's test, which the agent
plays again, or, without an agent, the run's first recording. Any static host can serve the files as they are.
"""

import json
from pathlib import Path

from world_models import command_line
from world_models.config import UserError
from world_models.runs.files import copy, write_text
from world_models.runs.run import Run
from world_models.text import printable
from world_models.training import quiet_tensorflow

STATIC = Path(__file__).parent / "static"


def build(runs: list[Path], out: Path) -> None:
    """Writes the page. UserError if a run has not what it takes."""
    from tools.page import source, weights  # here: they load TensorFlow

    names = [printable(run.resolve().name) for run in runs]
    if len(set(names)) < len(names):
        raise UserError(f"--run: the page tells runs by their folders' names, got {', '.join(names)}")
    read = [source.read(Run(run)) for run in runs]  # all, before the first is written
    scripts = [(one.facts, one.arrays) for one in read]
    titles = [facts["title"] for facts, _ in scripts]
    listed = []
    for name, (facts, arrays) in zip(names, scripts, strict=True):
        text = json.dumps(facts | {"name": name} | weights.pack(arrays), ensure_ascii=False)
        write_text(out / "runs" / f"{name}.js", f"provideRun({text});\n")
        alone = titles.count(facts["title"]) == 1
        listed.append({"name": name, "title": facts["title"] if alone else name})
        size = (out / "runs" / f"{name}.js").stat().st_size
        command_line.print_result(f"{out}/runs/{name}.js: {size / 1e6:.2f} MB; the real game: {facts['game_of']}")
    for path in STATIC.iterdir():
        copy(path, out / path.name)
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    drawing = (STATIC / "drawing.svg").read_text(encoding="utf-8")
    write_text(out / "index.html", page.replace("<!-- drawing.svg -->", drawing))
    write_text(out / "runs.js", f"const RUNS = {json.dumps(listed)};\n")


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, nargs="+", required=True, metavar="DIR", help="runs, one or several")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    args = parser.parse_args()
    quiet_tensorflow()
    build(args.run, args.out)
    command_line.print_result(f"open it with a browser: {(args.out / 'index.html').resolve().as_uri()}")


if __name__ == "__main__":
    command_line.command(main)
