"""Check a run against the values of healthy ones, stage by stage, and say what to look at.

    python -m tools.doctor --run runs/car

Reads the files that training writes, loads no model, changes nothing, and may be asked while a stage trains. Each line
says ok, look or -, which is a stage that is not there. Exits with 1 if there is something to look at. The values stand
in healthy.json, each with its source; docs/healthy-values.md shows them, by `python -m tools.doctor --into PATH`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools import healthy
from tools.reporting.runs import Run, read_run
from tools.reporting.tables import trainings_of
from tools.reporting.words import fill
from vae.data import episode_path, read_episode
from world_models import command_line
from world_models.config import UserError
from world_models.runs.arrays import FLOATS, open_npz
from world_models.runs.arrays import UNREADABLE

SAMPLE = 20  # episodes that are opened
FRAMES = 1000  # on which the dimensions of z are looked at
LETTERS = {"vae": "V", "rnn": "M"}


@dataclass(frozen=True)
class Finding:
    """A line of the diagnosis: `fault` names one of healthy.json, "" says that the value is normal, None that there
    is nothing to check."""

    stage: str
    text: str
    fault: str | None = ""


def values_of(run: Run) -> dict:
    """The healthy values of a run's task; {} if none are known."""
    return healthy.read()["tasks"].get(run.config.task, {})


def compare(run: Run, stage: str, quantity: str, step: int, value: float) -> Finding | None:
    """A value beside the healthy one of the run's preset, or of `laptop` where `paper` has none; None where there is
    no healthy value, or none as early."""
    entries = [e for e in values_of(run).get("curves", []) if (e["stage"], e["quantity"]) == (stage, quantity)]
    order = (run.config.preset, "laptop") if run.config.preset != "smoke" else ("smoke",)
    entries = sorted((e for e in entries if e["preset"] in order), key=lambda entry: order.index(entry["preset"]))
    if not entries:
        return None
    entry, task = entries[0], run.config.task
    if step < healthy.curve(entry, task)[0][0]:
        return None
    low, high = healthy.bounds(entry, expected := healthy.normal(entry, task, step))
    text = f"{entry['name']} {value:.4g} at {entry['unit']} {step:,} (normal in `{entry['preset']}`: {expected:.4g})"
    return Finding(stage, text, "" if low <= value <= high else entry["fault"])


def episodes(run: Run) -> Iterator[Finding]:
    """The recorded episodes: their number, their length, and whether there is something to see in them."""
    config, stage = run.config, "episodes"
    own = range(config.linked, config.total_episodes)
    there = [path for k in own if (path := episode_path(run.path, k)).exists()]
    if not there:
        yield Finding(stage, "none recorded here", None)
        return
    text = f"{len(there):,} of {config.episodes:,} recorded"
    yield Finding(stage, text, "" if len(there) == config.episodes else "missing episodes")
    chosen = [there[k] for k in np.linspace(0, len(there) - 1, min(SAMPLE, len(there))).astype(int)]
    pairs = [read_episode(path) for path in chosen]
    values = values_of(run)
    if config.round == 1 and config.policy in values.get("frames", {}):
        length = float(np.mean([len(obs) for obs, _ in pairs]))
        usual = min(values["frames"][config.policy], config.max_frames)
        text = f"{length:.0f} frames an episode, of {len(pairs)} (normal for `{config.policy}`: {usual})"
        yield Finding(stage, text, "" if 0.6 * usual <= length <= 1.6 * usual else "episode length")
    if "black" in values:
        black = float(np.mean([(obs[::10] == 0).all(axis=-1).mean() for obs, _ in pairs]))
        text = f"{black:.0%} of the pixels black (normal: under {values['black']:.0%})"
        yield Finding(stage, text, "" if black <= values["black"] else "black frames")
    still = float(np.mean([(obs[1:] == obs[:-1]).all(axis=(1, 2, 3)).mean() for obs, _ in pairs]))
    moving = float(np.mean([action.std(axis=0).max() for _, action in pairs]))
    text = f"{still:.0%} of the frames like the one before, actions of standard deviation {moving:.2f}"
    yield Finding(stage, text, "frozen" if still > 0.5 or moving == 0 else "")


def active(run: Run) -> tuple[int, str] | None:
    """How many dimensions of z vary with the frame (variance of mu over frames above 0.01, Burda et al. 2015,
    arXiv:1509.00519), and where that was counted."""
    for name in ("series.npz", "initial_z.npz"):
        if (run.path / name).exists():
            try:
                with open_npz(run.path / name, {"mu": (FLOATS, (None, run.config.z_size))}) as file:
                    mu = file["mu"]
            except UNREADABLE as error:
                raise UserError(f"{run.path / name} does not hold latents: {error}") from None
            if len(mu) >= FRAMES:
                chosen = mu[:: len(mu) // FRAMES].astype(np.float32)
                return int((chosen.var(axis=0) > 0.01).sum()), name
    return None


def curve(run: Run, name: str) -> list[dict]:
    """The losses of V's or M's last training, which in a round without new episodes is an earlier one's; [] if there is
    none."""
    return (trainings_of(run, name) or [[]])[-1]


def model(run: Run, name: str) -> Iterator[Finding | None]:
    """V's or M's losses, at their last line."""
    stage, weights = LETTERS[name], run.path / f"{name}.weights.h5"
    lines = curve(run, name)
    if not lines:
        yield Finding(stage, "weights without a learning curve" if weights.exists() else "not trained here", None)
        return
    last = lines[-1]
    if not weights.exists():
        yield Finding(stage, f"in training, or stopped, at step {last['step']:,}", None)
    for quantity in sorted(last.keys() - {"model", "step", "seconds"}):
        yield compare(run, stage, quantity, last["step"], last[quantity])


def vae(run: Run) -> Iterator[Finding | None]:
    """V: its losses, and how many dimensions of z it uses."""
    yield from model(run, "vae")
    if counted := active(run):
        number, name = counted
        low = values_of(run).get("active", {name: 1})[name]  # of whichever task: where none varies z holds nothing
        text = f"{number} of {run.config.z_size} dimensions of z vary with the frame, in {name} (normal: {low} or more)"
        yield Finding("V", text, "" if number >= low else "dead latents")


def rnn(run: Run) -> Iterator[Finding | None]:
    """M: its losses; and whether its death head is overfitted."""
    yield from model(run, "rnn")
    lines = [line for line in curve(run, "rnn") if "r_loss" in line]
    limit = values_of(run).get("memorised")
    if lines and limit and not run.config.models_stay:  # else it is not known here how many M has learnt from
        loss, count = lines[-1]["r_loss"], run.config.total_episodes * (2 if run.config.mirror == "yes" else 1)
        if loss < limit["r_loss"] and count < limit["episodes"]:
            yield Finding("M", f"death loss {loss:.4f} from {count:,} episodes", "overfitted death head")


def controller(run: Run) -> Iterator[Finding | None]:
    """C: its population's curve, its score on fresh episodes, and whether the search has anything to learn from."""
    if not run.history:
        yield Finding("C", "not evolved here", None)
        return
    last, values = run.history[-1], values_of(run)
    step = last["generation"]
    yield compare(run, "C", "mean", step, float(np.mean([line["mean"] for line in run.history[-3:]])))
    scored = [line for line in run.history if line["evaluation"]]
    if scored:
        best = max(scored, key=lambda line: line["evaluation"]["mean"])
        yield compare(run, "C", "evaluation", scored[-1]["generation"], best["evaluation"]["mean"])
    if last["max"] == last["min"]:
        yield Finding("C", f"all candidates of generation {step} scored {last['mean']:.1f}", "equal candidates")
    unevolved = run.config.round == 1 or run.config.restart == "yes"  # else the search goes on from an agent
    if run.config.env == "dream" and "kind" in values and unevolved:
        first = [line for line in run.history if line["generation"] <= values["kind"]["generations"]]
        for line in first:
            if line["mean"] > (limit := values["kind"]["means"][line["generation"] - 1]):
                text = f"candidates already survive {line['mean']:.0f} steps in generation {line['generation']}"
                yield Finding("C", f"{text} (normal: under {limit})", "overlong dreams")
                break
    if "stuck" in values:
        yield from stuck(run, values["stuck"], scored)
    low, high = healthy.read()["sigma"]
    if "sigma" in last and not low <= last["sigma"] <= high:
        yield Finding("C", f"step size {last['sigma']:.2g} (normal: {low} to {high})", "step size")


def stuck(run: Run, values: dict, scored: list[dict]) -> Iterator[Finding]:
    """Whether the population's mean has stayed where cars drive straight and slowly, and miss the curves."""
    window, (low, high) = values["generations"], values["between"]
    if len(run.history) < window:
        return
    halves = np.array([line["mean"] for line in run.history[-window:]]).reshape(2, -1).mean(axis=1)
    best = max((line["evaluation"]["mean"] for line in scored), default=-np.inf)
    if low <= halves.min() and halves.max() <= high and best <= high:
        text = f"the population's mean stays between {low} and {high} ({halves[0]:.0f}, then {halves[1]:.0f})"
        yield Finding("C", f"{text} over {window} generations", "stuck")


def tests(run: Run) -> Iterator[Finding]:
    """The test episodes, beside what C scored when it was chosen and beside the dream."""
    rows = [row for row in run.rows if "mean" in row and run.agent(row) is run]
    game = [
        row
        for row in rows
        if row["env"] == "real" and row["dtype"] == "float32" and row["view"] in (None, run.config.view)
    ]
    if not game:
        yield Finding("test", "not played here", None)
        return
    row, values = max(game, key=lambda row: row["episodes"]), values_of(run).get("test")
    text = f"{row['mean']:.1f} ± {row['std']:.1f} over {row['episodes']} episodes"
    if not values:
        yield Finding("test", text, None)
    elif run.config.env == "real" and run.best and run.best.get("score") is not None:
        gap = run.best["score"] - row["mean"]
        text += f", {run.best['score']:.1f} when it was chosen"
        yield Finding("test", text, "" if gap <= values["gap"] else "optimistic choice")
    elif run.config.env == "dream":
        dream = [r for r in rows if r["env"] == "dream" and r["temperature"] == run.config.temperature]
        score = dream[0]["mean"] if dream else (run.best or {}).get("score") or 0.0
        text += f" in the game, {score:.1f} in the dream"
        cheats = row["mean"] < values["random"] and score > values["dream"]
        yield Finding("test", text, "exploited dream" if cheats else "")
    else:
        yield Finding("test", text)


def examine(path: Path) -> list[Finding]:
    """All findings of a run, in the order of the stages. UserError if `path` is no run or a file is broken."""
    run = read_run(path, path.name)
    return [finding for stage in (episodes, vae, rnn, controller, tests) for finding in stage(run) if finding]


def say(finding: Finding, faults: dict) -> str:
    """A finding in one line, and what to do in a second if there is something to look at."""
    mark = {None: "-", "": "ok"}.get(finding.fault, "look")
    line = f"{finding.stage:<9}{mark:<5}{finding.text}"
    if mark != "look":
        return line
    fault = faults[finding.fault]
    return f"{line}\n{'':14}{finding.fault}: {fault['cause']} {fault['do']}"


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, metavar="DIR", help="the run folder")
    what.add_argument("--into", type=Path, metavar="PATH", help="write the healthy values into this page instead")
    args: argparse.Namespace = parser.parse_args()
    if args.into:
        fill(args.into, healthy.tables())
        return
    findings, faults = examine(args.run), healthy.read()["faults"]
    print("\n".join(say(finding, faults) for finding in findings))
    if any(finding.fault for finding in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    command_line.command(main)
