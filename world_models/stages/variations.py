"""Further agents on the V and M of a run: an evolution for each combination of settings of C, and their tests."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from controller.evolution import evolve
from controller.policy import Controller
from world_models import command_line, mpi, published, results, statistics, tasks
from world_models import config as configs
from world_models.config import UserError
from world_models.runs import files
from world_models.runs.agent import read_best
from world_models.runs.artifacts import AGENTS, V
from world_models.runs.begin import begin_agent, require_settings
from world_models.runs.lock import Lock
from world_models.runs.run import Run
from world_models.stages import evaluation

VARIED = ("seed", *configs.fields_of("C"))


def parse(texts: list[str]) -> list[dict]:
    """["temperature=0.5,1.15", "seed=1,2"] -> the four combinations, each {setting: value}.

    Values of `rollouts` contain commas, so they are separated by "/": "rollouts=4/1,15:2". UserError if a part names no
    setting of C.
    """
    axes: dict[str, list] = {}
    for text in texts:
        flag, _, values = text.partition("=")
        name = flag.replace("-", "_")
        if name not in VARIED:
            known = ", ".join(each.replace("_", "-") for each in VARIED)
            raise UserError(f"--vary {text}: expected SETTING=VALUE,VALUE of one of {known}")
        if name in axes:
            raise UserError(f"--vary {text}: {flag} is given twice; list all its values in one")
        axes[name] = list(dict.fromkeys(value(name, each) for each in values.split("/" if name == "rollouts" else ",")))
    axes = {name: axes[name] for name in VARIED if name in axes}  # the same agents in whichever order they are given
    return [dict(zip(axes, combination, strict=True)) for combination in itertools.product(*axes.values())]


def value(name: str, text: str) -> Any:
    """A setting's value from its text, or the text, at which the check of the settings says what is expected."""
    kinds: dict[str, Any] = {item.name: item.type for item in dataclasses.fields(configs.Config)}
    try:
        return kinds[name](text)
    except ValueError:
        return text


def folder_name(varied: dict) -> str:
    """{"features": "z", "seed": 1} -> "features-z,seed-1"."""
    return ",".join(f"{name}-{each}" for name, each in varied.items())


def configured(run: Run, given: dict, varied: dict) -> configs.Config:
    """The settings of an agent: the run's, with `given` and `varied`. UserError if it cannot be evolved, or if it
    exists with other settings."""
    config = tasks.replace(run.config, **given | varied)
    if "temperature" in varied and config.play_in == "real":
        raise UserError("--vary temperature: the real environment has none; add --play-in dream")
    if config.round > 1 and config.search_start != "zero":
        if not (run / "before" / V).exists():  # a pack has the records of the round before, not its models
            config = dataclasses.replace(config, search_start="zero")
        elif config.features != (sees := run.before.config.features):
            raise UserError(f"--vary features: C of the round before sees {sees}; add --search-start zero")
    if (run / AGENTS / folder_name(varied) / "config.json").exists():
        agent = Run(run / AGENTS / folder_name(varied))
        require_settings(agent, vars(config), "give that, or delete the folder")
    return config


def evolve_and_test(comm: mpi.Comm, run: Run, given: dict, combinations: list[dict], episodes: int) -> None:
    """Evolves an agent for each combination, in a run of its own in agents/, and tests it: in its dream, if it is
    evolved there, and in the real environment. What exists is neither evolved nor tested again. All agents have the
    settings `given`, and those of their combination (as in `parse`)."""
    # All settings are checked first, so that a mistake is reported before the first agent's hours.
    settings = [mpi.on_root(comm, configured, run, given, varied) for varied in combinations]
    lines = []
    for varied, config in zip(combinations, settings, strict=True):
        lock = Lock(run / AGENTS / folder_name(varied))  # the agent's folder is a run that other commands can open
        try:
            mpi.on_root(comm, lock.take)
            agent = mpi.on_root(comm, begin_agent, run, folder_name(varied), config)
            if not mpi.on_root(comm, evolved, agent):
                evolve(comm, agent)
            for env in ("dream", "real") if config.play_in == "dream" else ("real",):
                there = evaluation.configured(agent.config, play_in=env)
                row = mpi.on_root(comm, tested, agent, there, episodes)
                row = row or evaluation.evaluate(comm, agent, there, episodes, video=False)
                lines.append((varied, row))
        finally:
            lock.release()
    if comm.rank == 0:
        command_line.print_result(table(lines))


def evolved(run: Run) -> bool:
    """Whether a run's search has gone through all its generations. A pack has no checkpoint that says so."""
    history = files.read_lines(run / "controller/history.jsonl")
    return (run / "controller/best.json").exists() and len(history) >= run.config.generations


def tested(run: Run, config: configs.Config, episodes: int) -> dict | None:
    """The row of a run's results that tests the agent it has now, as `config` says; None if there is none."""
    best = read_best(run, Controller.of(config).num_params)
    wanted = evaluation.identity(run, config, best) | {"episodes": episodes}
    return next((row for row in results.read(run) if wanted.items() <= row.items()), None)


def table(lines: Sequence[tuple[dict, Any]]) -> str:
    """Each agent's test, then the mean over seeds of those that differ in nothing else, as text."""
    form = "{:<40} {:<32} {:>12} {:>16}"
    text = [form.format("agent", "where", "paper", "ours")]
    seeds: dict[tuple, list[float]] = {}
    for varied, row in lines:
        place, paper = results.where(row), published.text(row) or "-"
        text.append(form.format(folder_name(varied), place, paper, f"{row['mean']:.1f} ± {row['std']:.1f}"))
        seedless = folder_name({name: each for name, each in varied.items() if name != "seed"})
        seeds.setdefault((seedless, place, paper), []).append(row["mean"])
    for (seedless, place, paper), means in seeds.items():
        if len(means) > 1:
            ours = f"{np.mean(means):.1f}, standard error {statistics.standard_error(means):.1f}"
            text.append(form.format(f"{seedless} {len(means)} seeds".strip(), place, paper, ours))
    return "\n".join(text)
