"""Compares a run with the values of healthy ones, stage by stage, and says what to check.

    python -m tools.doctor --run runs/car

It reads the files that training writes, also while a stage trains, and changes nothing. Each line says "ok", "look", or
"-" where there is nothing to compare. The status is 1 if a line says "look". The values are in healthy.json, each with
its source, and docs/troubleshooting.md explains the faults.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from controller.policy import Controller
from tools.reporting.runs import Run, read_run
from tools.reporting.tables import trainings_of
from world_models import command_line, published, tasks
from world_models.config import flag
from world_models.runs import episodes as recordings
from world_models.runs.arrays import FLOATS, open_npz, reading
from world_models.runs.artifacts import EPISODE

HEALTHY = json.loads(Path(__file__).with_name("healthy.json").read_text(encoding="utf-8"))
SAMPLE = 20  # episodes that are opened
FRAMES = 100  # fewest frames from which the used dimensions of z are counted


class Finding(NamedTuple):
    """A line of the diagnosis. `fault` names one of healthy.json; "" means ok, None that nothing is compared."""

    stage: str
    text: str
    fault: str | None = ""


def values_of(run: Run) -> dict:
    """The healthy values of a run's task; {} if none are known."""
    return HEALTHY["tasks"].get(run.config.task, {})


def points(entry: dict, task: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of a healthy curve. Those of the release are read from published.json."""
    if "published" not in entry:
        return tuple(np.array(entry["points"], float).T)
    columns = published.curve(task)[entry["published"]]
    chosen = [columns["generation"].index(step) for step in entry["at"]]
    return np.array(entry["at"], float), np.array(columns["mean"], float)[chosen]


def normal(entry: dict, task: str, step: int) -> float:
    """A healthy value after `step` steps, interpolated by the step's logarithm; after the last point its value."""
    steps, values = points(entry, task)
    return float(np.interp(np.log(step), np.log(steps), values))


def compare(run: Run, stage: str, quantity: str, step: int, value: float) -> Finding | None:
    """A value next to the healthy one of the run's preset, or of `laptop` where `paper` has none; None where there is
    no healthy value, or none so early."""
    entries = [e for e in values_of(run).get("curves", []) if (e["stage"], e["quantity"]) == (stage, quantity)]
    presets = (run.config.preset, "laptop") if run.config.preset != "smoke" else ("smoke",)
    entry = next((e for preset in presets for e in entries if e["preset"] == preset), None)
    if entry is None or step < points(entry, run.config.task)[0][0]:
        return None
    expected = normal(entry, run.config.task, step)
    low = expected * entry["low"] if "low" in entry else expected - entry.get("below", np.inf)
    high = expected * entry["high"] if "high" in entry else expected + entry.get("above", np.inf)
    text = f"{entry['name']} {value:.4g} at {entry['unit']} {step:,} (normal in `{entry['preset']}`: {expected:.4g})"
    return Finding(stage, text, "" if low <= value <= high else entry["fault"])


def episodes(run: Run) -> Iterator[Finding]:
    """The recorded episodes: their number, and whether their frames and actions change."""
    own = range(run.config.linked_episodes, run.config.total_episodes)
    found = [path for k in own if (path := run.path / "record" / EPISODE.format(k)).exists()]
    if not found:
        yield Finding("episodes", "none recorded here", None)
        return
    missing = "missing episodes" if len(found) < len(own) else ""
    yield Finding("episodes", f"{len(found):,} of {len(own):,} recorded", missing)
    seen = [recordings.read(found[k]) for k in np.linspace(0, len(found) - 1, min(SAMPLE, len(found))).astype(int)]
    still = float(np.mean([(obs[1:] == obs[:-1]).all(axis=(1, 2, 3)).mean() for obs, *_ in seen]))
    moving = float(np.mean([action.std(axis=0).max() for _, action, *_ in seen]))
    text = f"{still:.0%} of the frames equal the frame before, standard deviation of the actions {moving:.2f}"
    yield Finding("episodes", text, "frozen" if still > 0.5 or moving == 0 else "")


def unused(run: Run) -> tuple[np.ndarray, str] | None:
    """Which dimensions of z are unused, bool (Z,), and what this was counted from; None without enough frames.

    A dimension is unused if V's code of it hardly depends on the frame and is close to N(0, 1): the mean of logvar over
    frames is above -0.08, and the standard deviation of mu is under 0.2. UserError if a file holds no latents.
    """
    shapes = dict.fromkeys(("mu", "logvar"), (FLOATS, (None, run.config.z_size)))
    for path, kind in ((run.path / "series.npz", "frames"), (run.path / "initial_z.npz", "first frames")):
        if not path.exists():
            continue
        with reading(path, "does not hold latents", "run train_rnn.py again"), open_npz(path, shapes) as file:
            mu, logvar = (file[part] for part in shapes)
        if len(mu) == len(logvar) >= FRAMES:
            mu, logvar = (part[:: max(1, len(part) // 10_000)].astype(np.float32) for part in (mu, logvar))
            return (logvar.mean(axis=0) > -0.08) & (mu.std(axis=0) < 0.2), f"{len(mu):,} {kind} of {path.name}"
    return None


def latents(run: Run) -> Iterator[Finding]:
    """How many dimensions of z are unused, and, of a C without a hidden layer, the standard deviation that they add to
    each of its outputs before tanh: 0 if C acts on the mean of z."""
    if not (counted := unused(run)):
        return
    which, source = counted
    text = f"{which.sum()} of {len(which)} dimensions of z are unused, in {source}"
    yield Finding("V", text, "collapsed z" if (~which).sum() < values_of(run).get("used", 1) else "")
    controller, parameters = Controller.of(run.config), np.array((run.best or {}).get("parameters") or [])
    if len(controller.layers) == 1 and len(parameters) == controller.num_params:
        [(inputs, outputs, _)] = controller.layers
        weights = parameters[-inputs * outputs :].reshape(inputs, outputs)[: len(which)][which]  # z is C's first input
        added = np.sqrt((weights**2).sum(axis=0)) * (run.config.z != "mean")
        numbers = ", ".join(f"{value:.2f}" for value in added)
        remedy = " (0 with `--z mean`)" * (run.config.z != "mean" and bool(which.any()))
        yield Finding("C", f"unused dimensions of z add noise of {numbers} to C's outputs before tanh{remedy}", None)


def model(run: Run, name: str, stage: str) -> Iterator[Finding | None]:
    """The last losses of V ("vae") or M ("rnn")."""
    made, lines = (run.path / f"{name}.weights.h5").exists(), (trainings_of(run, name) or [[]])[-1]
    if not lines:
        yield Finding(stage, "weights without a learning curve" if made else "not trained here", None)
        return
    last = lines[-1]
    if not made:
        yield Finding(stage, f"in training, or stopped, at step {last['step']:,}", None)
    for quantity in sorted(last.keys() - {"model", "step", "seconds"}):
        found = compare(run, stage, quantity, last["step"], last[quantity])
        yield death(run, found, last[quantity]) if found and (stage, quantity) == ("M", "r_loss") else found


def death(run: Run, found: Finding, loss: float) -> Finding:
    """The verdict on M's death loss: too high, too low for so few episodes, or ok."""
    limit, config = values_of(run).get("memorised"), run.config
    mirrored = config.mirror == "yes"
    # Where V and M stay as they were, it is not known here from how many episodes M has learned.
    if found.fault or not limit or config.models_stay or loss >= limit["r_loss"]:
        return found
    if config.total_episodes * (1 + mirrored) >= limit["episodes"]:
        return found
    learned = f"{config.total_episodes:,} episodes" + " and their mirror images" * mirrored
    return Finding("M", f"{found.text}, from {learned}", "overfitted death head")


def search(run: Run) -> Iterator[Finding | None]:
    """C's score, and whether its search has something to select by."""
    if not run.history:
        yield Finding("C", "not evolved here", None)
        return
    last, config = run.history[-1], run.config
    scored = [line for line in run.history if line["evaluation"]]
    best = max((line["evaluation"]["mean"] for line in scored), default=0.0)
    recent = float(np.mean([line["mean"] for line in run.history[-3:]]))
    found = compare(run, "C", "evaluation", scored[-1]["generation"], best) if scored else None
    yield found or compare(run, "C", "mean", last["generation"], recent)
    if config.preset == "smoke":  # its M hardly predicts an end, so all of its dreams are equal and long
        return
    if last["max"] == last["min"]:
        text = f"all candidates of generation {last['generation']} scored {last['mean']:.1f}"
        yield Finding("C", text, "equal candidates")
    elif config.play_in == "dream" and (config.round == 1 or config.search_start == "zero"):  # else C begins trained
        for line, limit in zip(run.history, values_of(run).get("first means", []), strict=False):
            if line["mean"] > limit:
                text = f"candidates survive {line['mean']:.0f} steps in generation {line['generation']}"
                yield Finding("C", f"{text} (normal: under {limit})", "overlong dreams")
                return


def tests(run: Run) -> Iterator[Finding]:
    """The test in the game, next to the score with which C was chosen, or to its score in the dream."""
    row, values = run.test, values_of(run).get("test")
    if row is None:
        yield Finding("test", "not played here", None)
        return
    text = f"{row['mean']:.1f} ± {row['std']:.1f} over {row['episodes']} episodes"
    chosen = (run.best or {}).get("score")
    if not values or chosen is None:
        yield Finding("test", text, None)
    elif run.config.play_in == "real":
        luck = chosen - row["mean"] > values["gap"]
        yield Finding("test", f"{text}, {chosen:.1f} when it was chosen", "optimistic choice" if luck else "")
    else:
        dreamt = [r["mean"] for r in run.rows if r["play_in"] == "dream" and r["temperature"] == run.config.temperature]
        score = (dreamt or [chosen])[0]
        cheats = row["mean"] < values.get("random", -np.inf) and score > values["dream"]
        yield Finding("test", f"{text} in the game, {score:.1f} in the dream", "exploited dream" if cheats else "")


def examine(path: Path) -> list[Finding]:
    """All findings of a run, in the order of the stages. UserError if `path` is not a run, or if a file is broken."""
    run = read_run(path, path.name)
    parts = (episodes(run), model(run, "vae", "V"), latents(run), model(run, "rnn", "M"), search(run), tests(run))
    found = [finding for part in parts for finding in part if finding]
    return sorted(found, key=lambda finding: ("episodes", "V", "M", "C", "test").index(finding.stage))


def advice(fault: str, config) -> str:
    """What a fault means and what to do, without a setting that the run has or that its task lacks."""
    known = HEALTHY["faults"][fault]
    lacks = {"mirror"} if tasks.get(config.task).mirror is None else set()
    settings = known.get("settings", {})
    use = [f"`{flag(k)} {v}`" for k, v in settings.items() if getattr(config, k) != v and k not in lacks]
    return f"{fault}: {known['cause']} {known['do']}" + (f" Use {' and '.join(use)}." if use else "")


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder")
    args = parser.parse_args()
    findings, config = examine(args.run), read_run(args.run, args.run.name).config
    for finding in findings:
        mark = {None: "-", "": "ok"}.get(finding.fault, "look")
        command_line.print_result(f"{finding.stage:<9}{mark:<5}{finding.text}")
        if finding.fault:
            command_line.print_result(f"{'':14}{advice(finding.fault, config)}")
    if any(finding.fault for finding in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    command_line.command(main)
