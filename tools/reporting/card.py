"""The model card: what a reader of the Hugging Face hub, or of a folder of weights, needs to know of a run."""

import dataclasses
import os
from pathlib import Path

from tools.reporting.runs import Run
from tools.reporting.tables import duration, launch, searches_of, training_time, trainings_of
from tools.reporting.words import pack_of, pictures, table
from world_models import config as configs
from world_models import published, tasks
from world_models.results import identity, where
from world_models.runs import command_log

HOW = {"real": "in the real environment", "dream": "in M's dream"}

SCORES = ["environment", "agent", "ours", "episodes", "paper", "generation", "command", "wall-clock", "machine"]

FILES = {
    "config.json": "the configuration below",
    "vae.weights.h5": "V, Keras weights",
    "rnn.weights.h5": "M, Keras weights",
    "controller/best.json": "C: its flat parameters, generation and score when it was chosen",
    "initial_z.npz": "first frames' mu and logvar, where dreams start",
    "results.json": "every test episode's seed and return",
    "origins": "configuration, commands, learning curves, history and results of the runs that this one began from",
}

USE = """\
`DIR` is the folder that holds `config.json`; a packed one stays as it is unless `--save` is given.

```
python evaluate.py --run DIR --episodes 100
```

```python
import json
from pathlib import Path

from world_models.runs import run_dir
from world_models.world_model import load_rnn, load_vae

run = Path("DIR")
config = run_dir.load(run)
vae, rnn = load_vae(run, config), load_rnn(run, config)
parameters = json.loads((run / "controller" / "best.json").read_text())["parameters"]
```
"""


def front_matter(config: configs.Config, rows: list[dict]) -> str:
    """YAML for the hub: tags, and in `model-index` every score in the real environment."""
    name = tasks.get(config.task).environment(config.view)
    lines = ["library_name: keras", "pipeline_tag: reinforcement-learning", "tags:"]
    lines += [f"- {tag}" for tag in ("reinforcement-learning", "world-models", name)]
    if rows:
        lines += ["model-index:", f"- name: world-models-{config.task}", "  results:"]
    for row in rows:
        environment = tasks.get(row["task"]).environment(row["view"])
        name = environment + (f", {row['dtype']}" if row["dtype"] != "float32" else "")
        lines += [
            "  - task:",
            "      type: reinforcement-learning",
            "      name: reinforcement-learning",
            "    dataset:",
            f"      name: {name}",
            f"      type: {environment}",
            "    metrics:",
            "    - type: mean_reward",
            f"      value: {row['mean']:.2f} +/- {row['std']:.2f}",
            "      name: mean_reward",
            "      verified: false",
        ]
    return "\n".join(["---", *lines, "---", ""])


def record(run: Run) -> list[str]:
    """Training: every command with its wall-clock, those of the rounds before too, each stage's steps, and notes.md."""
    rows = [
        [
            launch(line),
            line["started"],
            duration(line["seconds"]) + ("" if line["ended"] else ", interrupted"),
            line["hardware"],
        ]
        for path in (*(origin.path for origin in run.origins), run.path, *(part.path for part in run.parts))
        for line in command_log.read(path)
    ]
    logs = {"V": trainings_of(run, "vae"), "M": trainings_of(run, "rnn"), "C": searches_of(run)}
    done = {letter: [line.get("step", line.get("generation")) for *_, line in log] for letter, log in logs.items()}
    units = {"V": "steps", "M": "steps", "C": "generations"}
    amounts = [
        f"{letter} {' + '.join(f'{n:,}' for n in each)} {units[letter]}" for letter, each in done.items() if each
    ]
    notes = run.path / "notes.md"
    if not rows and not amounts and not notes.exists():
        return []
    text = ["## Training\n"]
    if rows:
        text.append(table(["command", "started", "wall-clock", "machine"], rows))
    if amounts:
        text.append(f"{', '.join(amounts)}. Time in training: {training_time(run, identity(run.config))}.\n")
    if notes.exists():
        text.append(notes.read_text())
    return text


def gallery(run: Path, at: Path, suffix: str) -> list[str]:
    """The report's pictures of a run, as far as they lie at `at` or in the report/ below, and a pack's own; `suffix` as
    of `pictures`."""
    found = [*pictures(at, suffix), *pictures(at / "report", suffix)]
    if pack_of(run, at):
        found += pictures(run / "pictures")
    if not found:
        return []
    shown = (f"{caption}\n\n![{path.stem}]({os.path.relpath(path, at)})\n" for path, caption in found)
    return ["## Qualitative results\n", *shown]


def trained_on(config: configs.Config) -> str:
    """What V and M are trained on, a sentence."""
    if config.models_stay:
        return f"V and M are those of round {config.round - 1}."
    if config.round == 1:
        return f"V and M are trained on {config.episodes} random episodes, of policy `{config.policy}`."
    own = f"V and M are trained on {config.episodes} episodes that the agent of round {config.round - 1} recorded"
    if config.random:
        own += f" ({config.random:.0%} of them the random policy, `{config.policy}`)"
    if config.curious:
        own += f", {config.curious:.0%} of its own by C evolved for M's surprise"
    if config.noisy and config.random < 1:
        own += f", {config.noisy:.0%} of its own with noise on C's outputs"
    return own + (f", and the {config.linked} of the rounds before." if config.linked else ".")


def card(run: Run, at: Path, suffix: str = "") -> str:
    """The card of a run, as Markdown, to stand in the folder `at` beside the report's pictures, whose names end with
    `suffix` where they are of several runs."""
    config = run.config
    rows = [row for row in run.rows if "mean" in row and run.agent(row)]
    own = [row for row in rows if row["env"] == "real" and run.agent(row) is run]
    fields = dataclasses.fields(config)
    paper = tasks.preset(config.task, "paper")
    settings = [[f.name, str(getattr(config, f.name)), str(getattr(paper, f.name)), f.metadata["help"]] for f in fields]
    scores = [
        [
            where(row),
            "" if run.agent(row) is run else run.agent(row).path.name,
            f"{row['mean']:.1f} ± {row['std']:.1f}",
            str(row["episodes"]),
            published.text(row),
            "" if row.get("generation") is None else str(row["generation"]),
            launch(row),
            duration(row["seconds"]) if "seconds" in row else "",
            row.get("hardware", ""),
        ]
        for row in rows
    ]
    files = [[f"`{name}`", what] for name, what in FILES.items() if (run.path / name).exists()]
    made = [trained_on(config)]
    if config.untrained != "none":
        made.append(f"Not trained here (--untrained): {config.untrained}.")
    made.append(
        f"C sees `{config.features}` and is evolved by {configs.OPTIMIZERS[config.optimizer]}, {HOW[config.env]}."
    )
    if run.history:
        made.append(f"Its evolution took {len(run.history)} generations so far.")
    if run.best and run.best.get("generation"):
        made.append(f"The agent kept is generation {run.best['generation']}'s.")
    return "\n".join(
        [
            front_matter(config, own),
            f"# World Models: {tasks.get(config.task).environment(config.view)}\n",
            "V (a convolutional VAE), M (an MDN-RNN) and C (a small controller), after Ha and Schmidhuber, *World",
            "Models*, 2018 (arXiv:1803.10122), in Keras.\n",
            " ".join(made) + "\n",
            "## Environment\n",
            tasks.get(config.task).description.format(max_frames=config.max_frames) + "\n",
            "## Scores\n",
            "Mean ± standard deviation over test episodes, whose seeds training never saw.\n",
            table(SCORES, scores or [[""] * len(SCORES)]),
            *record(run),
            *gallery(run.path, at, suffix),
            "## Load and evaluate\n",
            USE,
            "## Files\n",
            table(["file", "what it is"], files),
            "## Configuration\n",
            table(["setting", "value", "paper's", "meaning"], settings),
        ]
    )
