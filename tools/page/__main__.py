"""A page in which runs' dreams are played, by you or by their agents. It opens from a file, without a server.

    python -m tools.page --run pretrained/doom pretrained/carracing --out site

Writes site/index.html, its scripts, and site/runs/NAME.js for each run: V's decoder, M and C in float16, first
frames, and 16 real frames with their z: of the run's first recording, or, where it has none, of an episode that its
agent plays for it. The files can be put on any static host as they are.
"""

import json
from pathlib import Path

from world_models import command_line
from world_models.config import UserError
from world_models.runs.files import copy, write_text
from world_models.runs.run import Run
from world_models.training import quiet_tensorflow

STATIC = Path(__file__).parent / "static"


def script(source) -> tuple[dict, dict]:
    """A run's facts, and its arrays by name."""
    from tools.page import weights

    config = source.config
    facts = {
        **source.controls.as_json(),
        "z_size": config.z_size,
        "units": config.rnn_units,
        "mixtures": config.mixtures,
        "end_head": source.end_head,
        "heads": len(source.rnn.heads),
        "dropout": config.dream_dropout,
        "temperature": config.temperature,
        "max_frames": config.dream_limit,
        "short_training": source.short_training,
        "evolved_in_dream": config.play_in == "dream",
        "features": config.features,
        "layers": source.layers if source.parameters is not None else None,
        "frames_of": source.frames_of,
        "scores": source.scores,
    }
    mu, logvar = source.starts
    arrays = weights.decoder(source.vae) | weights.memory(source.rnn)
    arrays |= {"start_mu": mu, "start_logvar": logvar, "z": source.z, "frames": source.frames}
    if source.parameters is not None:
        facts["parameters"] = source.parameters.tolist()
    return facts, arrays


def build(runs: list[Path], out: Path) -> None:
    """Writes the page. UserError if a run has not what it takes."""
    from tools.page import source, weights

    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise UserError(f"--run: the page tells runs by their folders' names, got {', '.join(names)}")
    scripts = [script(source.read(Run(run))) for run in runs]  # all, before the first is written
    titles = [facts["title"] for facts, _ in scripts]
    listed = []
    for name, (facts, arrays) in zip(names, scripts, strict=True):
        text = json.dumps(facts | {"name": name} | weights.pack(arrays), ensure_ascii=False)
        write_text(out / "runs" / f"{name}.js", f"provideRun({text});\n")
        alone = titles.count(facts["title"]) == 1
        listed.append({"name": name, "title": facts["title"] if alone else name})
        size = (out / "runs" / f"{name}.js").stat().st_size
        print(f"{out}/runs/{name}.js: {size / 1e6:.2f} MB; real frames: {facts['frames_of']}")
    for path in STATIC.iterdir():
        copy(path, out / path.name)
    write_text(out / "runs.js", f"const RUNS = {json.dumps(listed)};\n")


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, nargs="+", required=True, metavar="DIR", help="runs, one or several")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    args = parser.parse_args()
    quiet_tensorflow()
    build(args.run, args.out)
    print(f"open it with a browser: {(args.out / 'index.html').resolve().as_uri()}")


if __name__ == "__main__":
    command_line.command(main)
