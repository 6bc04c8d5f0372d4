"""Several agents on one V and M: an evolution for each combination of settings of C, and their tests."""

import dataclasses
import itertools
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from controller.evolution import evolve
from controller.policy import Controller
from world_models import command_line, mpi, published, results, statistics, tasks
from world_models import config as configs
from world_models.config import UserError
from world_models.runs import integrity, lock, run_dir, storage
from world_models.runs.agent_file import digest, read_best
from world_models.stages import evaluation
from world_models.tasks import limits

VARIED = tuple(name for name in ("seed", *configs.fields_of("C")) if name != "rollouts")  # whose values have commas


def parse(texts: list[str]) -> list[dict]:
    """["temperature=0.5,1.15", "seed=1,2"] -> the four combinations, each {setting: value}; UserError if a part is no
    setting of C, or one of its values no value of it."""
    axes: dict[str, list] = {}
    for text in texts:
        flag, _, values = text.partition("=")
        name = flag.replace("-", "_")
        if name not in VARIED:
            known = ", ".join(each.replace("_", "-") for each in VARIED)
            raise UserError(f"--vary {text}: expected SETTING=VALUE,VALUE of one of {known}")
        if name in axes:
            raise UserError(f"--vary {text}: {flag} is given twice; list all its values in one")
        axes[name] = list(dict.fromkeys(value(name, each) for each in values.split(",")))
    axes = {name: axes[name] for name in VARIED if name in axes}  # the same agents in whichever order they are given
    return [dict(zip(axes, combination, strict=True)) for combination in itertools.product(*axes.values())]


def value(name: str, text: str):
    """A setting's value from its text; UserError if it is none."""
    (item,) = [item for item in dataclasses.fields(configs.Config) if item.name == name]
    try:
        found = item.type(text)
    except ValueError:
        found = text
    limits.check_value(item, found)
    return found


def folder_name(varied: dict) -> str:
    """{"features": "z", "seed": 1} -> "features-z,seed-1"."""
    return ",".join(f"{name}-{each}" for name, each in varied.items())


def folder(run: Path, config: configs.Config, varied: dict) -> Path:
    """Where an agent of `config` is evolved: in `run` itself, if that is how its own agent is, else below it."""
    own = run_dir.load(run)
    same = config.generations >= own.generations and dataclasses.replace(config, generations=own.generations) == own
    return run if same else run / run_dir.AGENTS / folder_name(varied)


def configured(run: Path, given: dict, varied: dict) -> configs.Config:
    """The configuration of an agent: `run`'s, with `given` and `varied`. UserError if it cannot be evolved, or is there
    already, with other settings."""
    config = tasks.replace(run_dir.load(run), **given | varied)
    if "temperature" in varied and config.env == "real":
        raise UserError("--vary temperature: the real environment has none; say --env dream")
    if config.round > 1 and config.restart != "yes":
        before = run / run_dir.BEFORE
        if not before.exists():  # as of a packed run, from whose V and M another C begins anew
            config = dataclasses.replace(config, restart="yes")
        elif config.features != (sees := run_dir.load(before).features):
            raise UserError(f"--vary features: C of the round before sees {sees}; to evolve others say --restart yes")
    below = folder(run, config, varied)
    if below != run and (below / "config.json").exists():
        there = run_dir.load(below)
        if there.generations < config.generations:  # it goes on
            there = dataclasses.replace(there, generations=config.generations)
        for item in dataclasses.fields(configs.Config):
            old, new = getattr(there, item.name), getattr(config, item.name)
            if old != new:
                made = f"{configs.flag(item.name)} {old}"
                raise UserError(f"--vary: {below} was made with {made}, not {new}; say {made}, or delete the folder")
    return config


def place(run: Path, given: dict, varied: dict) -> Path:
    """The folder of an agent's run, new or not; UserError as of `configured`."""
    return folder(run, configured(run, given, varied), varied)


def open_agent(run: Path, given: dict, varied: dict) -> configs.Config:
    """The configuration of an agent, whose run is made if it is new."""
    config = configured(run, given, varied)
    below = folder(run, config, varied)
    if below != run:
        run_dir.open_run(below, given | varied | {"generations": config.generations}, run)
        run_dir.same_models(run, below)
    return config


def evolve_and_test(comm, run: Path, given: dict, combinations: list[dict], episodes: int) -> None:
    """Evolves an agent for each combination, in a run of its own, and tests it: in its dream, if it is evolved there,
    and in the real environment. What is there already is neither evolved nor tested again.

    Args:
        run: whose V and M they act with.
        given: settings of C that all of them have.
        combinations: as of `parse`.
        episodes: of a test.
    """
    # Those of all, so that a mistake is said before the first one's hours.
    folders = [mpi.on_root(comm, place, run, given, varied) for varied in combinations]
    lines = []
    for varied, below in zip(combinations, folders, strict=True):
        with nullcontext() if below == run else lock.hold(below, comm):  # the run's own is the command's
            config = mpi.on_root(comm, open_agent, run, given, varied)
            if not mpi.on_root(comm, evolved, below, config):
                evolve(comm, below, config)
            for env in ("dream", "real") if config.env == "dream" else ("real",):
                there = evaluation.configured(config, env=env)
                row = mpi.on_root(comm, tested, below, there, episodes)
                row = row or evaluation.evaluate(comm, below, there, episodes, video=False)
                lines.append((varied, row))
    if comm.rank == 0:
        command_line.say(table(lines))


def evolved(run: Path, config: configs.Config) -> bool:
    """Whether a run's search has gone through all its generations: a packed one has no checkpoint to say so."""
    history = storage.read_lines(run / "controller" / "history.jsonl")
    return (run / "controller" / "best.json").exists() and len(history) >= config.generations


def tested(run: Path, config: configs.Config, episodes: int) -> dict | None:
    """The row of a run's results.json that tests the agent it has now, as `config` says; None if there is none."""
    best = read_best(run / "controller", Controller.of(config).num_params)
    wanted = results.identity(run_dir.load(run), **dataclasses.asdict(config)) | {
        **integrity.digests(run, "vae", "rnn"),
        "agent": digest(best["parameters"]),
        "episodes": episodes,
    }
    rows = results.read(run / "results.json")
    return next((row for row in rows if wanted.items() <= row.items() and "returns" in row), None)


def table(lines: list[tuple[dict, dict]]) -> str:
    """Each agent's test, then the mean over seeds of those that differ in nothing else, as text."""
    form = "{:<40} {:<32} {:>12} {:>16}"
    text, seeds = [form.format("agent", "where", "paper", "ours")], {}
    for varied, row in lines:
        place, paper = results.where(row), published.text(row)
        text.append(form.format(folder_name(varied), place, paper, f"{row['mean']:.1f} ± {row['std']:.1f}"))
        seedless = folder_name({name: each for name, each in varied.items() if name != "seed"})
        seeds.setdefault((seedless, place, paper), []).append(row["mean"])
    for (seedless, place, paper), means in seeds.items():
        if len(means) > 1:
            ours = f"{np.mean(means):.1f}, standard error {statistics.standard_error(means):.1f}"
            text.append(form.format(f"{seedless} {len(means)} seeds".strip(), place, paper, ours))
    return "\n".join(text)
