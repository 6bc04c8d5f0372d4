"""The model card of a pack, README.md: what a reader of the Hugging Face hub, or of a folder of weights, needs."""

import json
from pathlib import Path

from tools.reporting import names
from tools.reporting.markup import Block, Code, Heading, Notes, Table, Text, to_markdown
from tools.reporting.pages import media
from tools.reporting.runs import Run
from tools.reporting.tables import (
    METHOD,
    commands_of,
    differences,
    made_table,
    of_test,
    results_table,
    rounds_table,
)
from world_models import config as configs
from world_models import published, results, tasks
from world_models.runs.artifacts import ARTIFACTS
from world_models.text import number, plus_minus

REPOSITORY_FILES = "README.md", "notes.md"  # of a pack, that its table of files leaves out
HOW = {"real": "in the real environment", "dream": "in M's dream"}
USE = """\
from world_models.pretrained import load
world_model, controller, parameters = load("{name}")
"""
LICENCE = "MIT. Please cite Ha and Schmidhuber, World Models, 2018 (arXiv:1803.10122), and this software."


def headlines(run: Run) -> list[dict]:
    """The longest test of the run's agent in each view of the real environment, in float32; its own view first."""
    found: dict[str | None, dict] = {}
    for row in run.rows:
        counts = "mean" in row and row["play_in"] == "real" and row["dtype"] == "float32" and row["z"] == run.config.z
        counts = counts and row["variant"] == "plain"
        if counts and row["episodes"] > found.get(row["view"], {"episodes": 0})["episodes"]:
            found[row["view"]] = row
    return sorted(found.values(), key=lambda row: not results.is_headline(run.config, row))


def front_matter(run: Run) -> str:
    """YAML for the hub: the licence, tags, and in `model-index` one metric for each view."""
    config = run.config
    game = tasks.get(config.task).environment(config.view)
    lines = ["license: mit", "library_name: keras", "pipeline_tag: reinforcement-learning", "tags:"]
    lines += [f"- {json.dumps(tag)}" for tag in ("reinforcement-learning", "world-models", game)]
    rows = headlines(run)
    if rows:
        lines += ["model-index:", f"- name: {json.dumps(f'world-models-{config.task}')}", "  results:"]
    for row in rows:
        environment, error = tasks.get(row["task"]).environment(row["view"]), of_test(run, row).error
        name = f"mean return of {row['episodes']} episodes" + (f", standard error {error:.2f}" if error else "")
        lines += [
            "  - task:",
            "      type: reinforcement-learning",
            "      name: reinforcement-learning",
            "    dataset:",
            f"      name: {json.dumps(environment)}",
            f"      type: {json.dumps(environment)}",
            "    metrics:",
            "    - type: mean_reward",
            f"      value: {row['mean']:.2f} +/- {row['std']:.2f}",
            f"      name: {json.dumps(name)}",
            "      verified: false",
        ]
    return "\n".join(["---", *lines, "---", "", ""])


def headline(run: Run) -> str:
    """The result that counts, in sentences."""
    rows = headlines(run)
    if not rows:
        return "This agent was not tested yet."
    line, row = of_test(run, rows[0]), rows[0]
    error = f" (standard error {number(line.error)})" if line.error else ""
    words = f"This agent scores {plus_minus(line.mean, line.std)}{error} over {line.played} episodes of {line.where}"
    if published.score(row):
        return f"{words}. The paper reports {line.paper}."
    return f"{words}. The paper reports no score for this environment."


def trained_on(config: configs.Config) -> str:
    """What V and M are trained on, a sentence."""
    if config.models_stay:
        return f"V and M are those of round {config.round - 1}."
    if config.round == 1:
        return f"V and M are trained on {config.episodes:,} episodes of the random policy `{config.policy}`."
    shares = {
        "of them by the random policy": config.random_share,
        "by C evolved for M's surprise": config.curious_share,
    }
    shares |= {"with noise on C's outputs": config.noisy_share}
    own = f"V and M are trained on {config.episodes:,} episodes that the agent of round {config.round - 1} recorded"
    own += "".join(f", {share:.0%} {words}" for words, share in shares.items() if share)
    return own + (f", and on the {config.linked_episodes:,} of the rounds before." if config.linked_episodes else ".")


def how_made(run: Run) -> str:
    """How V, M and C were made, in sentences."""
    config = run.config
    said = [trained_on(config)]
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
    config = run.config
    game = tasks.get(config.task).environment(config.view)
    shown = media(run.path, at)
    first = [one for one in shown if one.path.endswith("-median.mp4")] or shown[:1]
    blocks: list[Block] = [Heading(f"World Models: {game}", 1), Text(headline(run)), *first]
    blocks += [Heading("Load and test"), Code(USE.format(name=run.name), "python")]
    blocks.append(Code(f"python evaluate.py --run {run.name} --episodes 100", "bash"))
    blocks += [
        Heading("What it is"),
        Notes(
            "V (a convolutional VAE), M (an MDN-RNN) and C (a small controller) after Ha and Schmidhuber, World "
            "Models, 2018, in Keras. " + how_made(run)
        ),
        Notes(tasks.get(config.task).description.format(max_frames=config.max_frames)),
    ]
    if (scores := results_table([run])).rows:
        blocks += [Heading("Scores"), Text(METHOD), scores]
    if run.rounds:
        blocks += [Heading("Rounds"), Text("Each round goes on from the V, M and C of the round before.")]
        blocks.append(rounds_table(run))
    if (run.path / "notes.md").exists():
        blocks += [Heading("Notes"), Notes((run.path / "notes.md").read_text(encoding="utf-8"))]
    blocks += [Heading("How it was made"), made_table([run])]
    if commands := commands_of(run):
        blocks.append(Code(commands, "bash"))
    rest = [one for one in shown if one not in first]
    blocks += [Heading("Pictures and films"), *rest] if rest else []
    blocks += [Heading("Settings that differ from the paper's"), differences(config)]
    blocks += [Heading("Files"), files_of(run), Heading("Licence"), Text(LICENCE)]
    return front_matter(run) + to_markdown(blocks)
