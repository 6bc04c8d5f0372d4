"""The model card of a pack, README.md: what a reader of the Hugging Face hub, or of a folder of weights, needs."""

import json
from pathlib import Path

from tools.reporting import names
from tools.reporting.markup import Block, Code, Heading, Notes, Table, Text, to_markdown
from tools.reporting.pages import media
from tools.reporting.runs import Run
from tools.reporting.tables import METHOD, commands_of, differences, made_table, results_table, rounds_table
from world_models import config as configs
from world_models import published, results, tasks
from world_models.runs import files
from world_models.runs.artifacts import ARTIFACTS
from world_models.statistics import standard_error
from world_models.text import number, plus_minus

REPOSITORY_FILES = "README.md", "notes.md"  # of a pack, that its table of files leaves out
ABOUT = "V (a convolutional VAE), M (an MDN-RNN) and C (a small controller) after Ha and Schmidhuber, World Models, "
ABOUT += "2018, in Keras."
HOW = {"real": "in the real environment", "dream": "in M's dream"}
USE = """\
from world_models.pretrained import load
world_model, controller, parameters = load("{name}")
"""
FRONT = """\
---
license: mit
library_name: keras
pipeline_tag: reinforcement-learning
tags:
- "reinforcement-learning"
- "world-models"
- {game}
"""
MODEL = """\
model-index:
- name: {name}
  results:
"""
METRIC = """\
  - task:
      type: reinforcement-learning
      name: reinforcement-learning
    dataset:
      name: {game}
      type: {game}
    metrics:
    - type: mean_reward
      value: {score}
      name: {name}
      verified: false
"""
LICENCE = "MIT. Please cite Ha and Schmidhuber, World Models, 2018 (arXiv:1803.10122), and this software."


def headlines(run: Run) -> list[dict]:
    """The longest test of the run's agent in each view of the real environment, in float32; its own view first."""
    rows = [row for row in run.rows if results.is_headline(run.config, row | {"view": None})]
    rows = sorted((row for row in rows if row["z"] == run.config.z), key=lambda row: row["episodes"])
    found = {row["view"]: row for row in rows}
    return sorted(found.values(), key=lambda row: row["view"] != run.config.view)


def front_matter(run: Run) -> str:
    """YAML for the hub: the licence, tags, and in `model-index` one metric for each view."""
    task, rows = tasks.get(run.config.task), headlines(run)
    parts = [FRONT.format(game=json.dumps(task.environment(run.config.view)))]
    parts += [MODEL.format(name=json.dumps(f"world-models-{run.config.task}"))] if rows else []
    for row in rows:
        error = standard_error(row["returns"])
        name = f"mean return of {row['episodes']} episodes, standard error {error:.2f}"
        score = f"{row['mean']:.2f} +/- {row['std']:.2f}"
        game = json.dumps(task.environment(row["view"]))
        parts.append(METRIC.format(game=game, score=score, name=json.dumps(name)))
    return "".join([*parts, "---\n\n"])


def headline(run: Run) -> str:
    """The result that counts, in sentences."""
    rows = headlines(run)
    if not rows:
        return "This agent was not tested yet."
    row = rows[0]
    said = f"This agent scores {plus_minus(row['mean'], row['std'])} (standard error "
    said += f"{number(standard_error(row['returns']))}) over {row['episodes']:,} episodes of {results.where(row)}."
    return f"{said} The paper reports {published.text(row) or 'no score for this environment'}."


def trained_on(config: configs.Config) -> str:
    """What V and M are trained on, a sentence."""
    if config.models_stay:
        return f"V and M are those of round {config.round - 1}."
    if config.round == 1:
        return f"V and M are trained on {config.episodes:,} episodes of the random policy `{config.policy}`."
    own = f"V and M are trained on {config.episodes:,} episodes that the agent of round {config.round - 1} recorded"
    for share, words in (
        (config.random_share, "of them by the random policy"),
        (config.curious_share, "by C evolved for M's surprise"),
        (config.noisy_share, "with noise on C's outputs"),
    ):
        own += f", {share:.0%} {words}" * (share > 0)
    return own + (f", and on the {config.linked_episodes:,} of the rounds before." if config.linked_episodes else ".")


def how_made(run: Run) -> str:
    """What V, M and C are and how they were made, in sentences."""
    config = run.config
    said = [ABOUT, trained_on(config)]
    if config.untrained != "none":
        said.append(f"Not trained at all: {config.untrained}.")
    said.append(
        f"C sees {names.sees({'features': config.features, 'untrained': 'none'})}. It is evolved by "
        f"{configs.OPTIMIZERS[config.optimizer]}, {HOW[config.play_in]}."
    )
    if run.best and run.best.get("generation") is not None:
        said.append(f"The kept agent is that of generation {run.best['generation']} of {len(run.history)}.")
    return " ".join(said)


def files_of(run: Run) -> Table:
    """The files of the folder, by the table of what a run folder contains."""
    found = (one for one in ARTIFACTS.values() if one.packed and one.name not in REPOSITORY_FILES)
    return Table(("file", "what it holds"), [[one.name, one.text] for one in found if any(run.path.glob(one.name))])


def card(run: Run, at: Path) -> str:
    """The card of a run, as Markdown that stands in the folder `at`."""
    config, task = run.config, tasks.get(run.config.task)
    shown = media(run.path, at)
    first = [one for one in shown if one.path.endswith("-median.mp4")] or shown[:1]
    rest = [one for one in shown if one not in first]
    blocks: list[Block] = [
        Heading(f"World Models: {task.environment(config.view)}", 1),
        Text(headline(run)),
        *first,
        Heading("Load and test"),
        Code(USE.format(name=run.name), "python"),
        Code(f"python evaluate.py --run {run.name} --episodes 100", "bash"),
        Heading("What it is"),
        Notes(how_made(run)),
        Notes(task.description.format(max_frames=config.max_frames)),
    ]
    if (scores := results_table([run])).rows:
        blocks += [Heading("Scores"), Text(METHOD), scores]
    if run.rounds:
        blocks += [Heading("Rounds"), Text("Each round goes on from the V, M and C of the round before.")]
        blocks.append(rounds_table(run))
    if (run.path / "notes.md").exists():
        blocks += [Heading("Notes"), Notes(files.read_text(run.path / "notes.md"))]
    blocks += [Heading("How it was made"), made_table([run])]
    if commands := commands_of(run):
        blocks.append(Code(commands, "bash"))
    blocks += [Heading("Pictures and films"), *rest] if rest else []
    blocks += [Heading("Settings that differ from the paper's"), differences(config)]
    blocks += [Heading("Files"), files_of(run), Heading("Licence"), Text(LICENCE)]
    return front_matter(run) + to_markdown(blocks)
