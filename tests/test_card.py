"""The model card: what stands in a shipped run's README.md."""

import dataclasses
import json
import re
import shutil

from small_report import cells_of, make_car, make_run, result

from tools.reporting.card import card, front_matter, trained_on
from tools.reporting.pages import write_report
from tools.reporting.runs import read_run, read_runs
from tools.reporting.tables import training_time
from world_models import tasks
from world_models.runs import packed, storage


def test_the_card_of_a_report_of_several_runs_shows_the_first_ones_pictures(tmp_path):
    runs = [make_car(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        for name in ("dream-1.15", "dream-1e-05", "carracing-v0-best"):
            shutil.copyfile(run / "pictures/reconstructions.png", run / f"pictures/{name}.png")
        storage.write_lines(run / "metrics.jsonl", [{"model": "vae", "step": 1, "seconds": 1, "loss": len(run.name)}])
    write_report(read_runs(runs), tmp_path / "out")
    card = (tmp_path / "out" / "model_card.md").read_text()
    assert set(re.findall(r"\]\((\S+)\.png\)", card)) == {
        *("training-carracing", "histogram-carracing", "losses-one", "reconstructions-one"),
        *("dream-1.15-one", "dream-1e-05-one", "carracing-v0-best-one"),
    }
    assert "A dream of M at temperature 1.15," in card and "A dream of M at temperature 1e-05," in card


def test_the_card_says_what_a_round_was_trained_on():
    first = tasks.preset("doom", "smoke")
    assert "random episodes, of policy" in trained_on(first)
    later = dataclasses.replace(first, round=3, episodes=300, linked=900)
    own = "V and M are trained on 300 episodes that the agent of round 2 recorded"
    quiet = dataclasses.replace(later, noisy=0.0)
    assert trained_on(quiet) == f"{own}, and the 900 of the rounds before."
    assert trained_on(later) == f"{own}, 30% of its own with noise on C's outputs, and the 900 of the rounds before."
    assert f"{own}, 50% of its own by C evolved for M's surprise" in trained_on(dataclasses.replace(quiet, curious=0.5))
    assert "300 episodes that the agent of round 2 recorded (75% of them the random policy" in trained_on(
        dataclasses.replace(later, random=0.75)
    )
    assert trained_on(dataclasses.replace(later, episodes=0)) == "V and M are those of round 2."


def test_a_card_has_the_commands_and_scores_of_the_runs_below(tmp_path):
    config = tasks.preset("doom", "smoke")
    run = make_run(tmp_path / "doom", config, [result(config, [800.0, 1000.0])])
    cold = dataclasses.replace(config, temperature=0.5)
    part = make_run(run / "agents/temperature-0.5", cold, [result(cold, [300.0, 500.0])])
    line = {"command": "train_controller.py --vary temperature=0.5", "ranks": 2, "hardware": "a processor"}
    line |= {"started": "2026-01-01 00:00 UTC", "seconds": 90.0, "ended": True}
    storage.write_text(part / "commands" / "20260101T000000-train_controller.json", json.dumps(line))
    text = card(read_run(run, "doom"), run)
    assert cells_of(text, "ViZDoom, trained at τ 0.5")[0][1:3] == ["temperature-0.5", "400.0 ± 100.0"]
    assert cells_of(text, f"`mpirun -n 2 python {line['command']}`")[0][2] == "1.5 min"


def test_a_kept_agents_time_is_not_the_whole_evolutions(tmp_path):
    run = make_car(tmp_path / "car")
    row = json.loads((run / "results.json").read_text())["results"][0] | {"generation": 2}
    assert training_time(read_run(run, "car"), row) == "V 40 s, M 20 s, C 2.0 h (evolution 4.0 h)"


def test_notes_go_into_the_card(tmp_path):
    run = make_car(tmp_path / "car")
    storage.write_text(run / "notes.md", "V is another run's.\n")
    assert "## Training" in (text := card(read_run(run, "car"), run))
    assert text.index("V is another run's.") > text.index("## Training")


def test_model_card(car):
    text = (car / "README.md").read_text()
    assert text == card(read_run(car, "car"), car)
    assert (car / "report" / "model_card.md").read_text() == card(read_run(car, "car"), car / "report")
    _, front, body = text.split("---\n", 2)
    lines = front.splitlines()
    assert text.startswith("---\n") and "\t" not in front
    assert lines[0] == "library_name: keras"
    assert {"- reinforcement-learning", "- world-models", "- CarRacing-v0"} <= set(lines)
    start = lines.index("model-index:")
    assert [line.strip() for line in lines[start:]] == [
        "model-index:",
        "- name: world-models-carracing",
        "results:",
        "- task:",
        "type: reinforcement-learning",
        "name: reinforcement-learning",
        "dataset:",
        "name: CarRacing-v0",
        "type: CarRacing-v0",
        "metrics:",
        "- type: mean_reward",
        "value: 854.25 +/- 45.61",
        "name: mean_reward",
        "verified: false",
    ]
    # A key stands two deeper than the list item or mapping it belongs to.
    assert [len(line) - len(line.lstrip()) for line in lines[start:]] == [0, 0, 2, 2, 6, 6, 4, 6, 6, 4, 4, 6, 6, 6]
    assert "python evaluate.py --run DIR" in body
    assert "| max_frames | 300 | 1000 |" in body


def test_the_cards_scores_in_float32_and_bfloat16_are_told_apart():
    row = {"task": "carracing", "view": "v0", "dtype": "float32", "mean": 790.4, "std": 140.4}
    text = front_matter(tasks.preset("carracing", "paper"), [row, row | {"dtype": "bfloat16", "mean": 790.2}])
    names = [line.strip() for line in text.splitlines() if line.startswith("      name: CarRacing")]
    assert names == ["name: CarRacing-v0", "name: CarRacing-v0, bfloat16"]


def test_a_pack_has_its_pictures_once(tmp_path):
    run, out = make_car(tmp_path / "car"), tmp_path / "out"
    shutil.copyfile(run / "pictures/reconstructions.png", run / "pictures/carracing-v0-best.png")
    shutil.copytree(run, out, ignore=shutil.ignore_patterns("report"))
    packed.mark(out, None)
    write_report([read_run(out, "car")], out / "report")
    names = {"reconstructions", "carracing-v0-best"}
    assert {path.stem for path in out.rglob("*.png")} >= names
    assert not names & {path.stem for path in (out / "report").glob("*.png")}
    for page, text in (
        *((path, path.read_text()) for path in out.glob("report/*.md")),
        (out / "README.md", card(read_run(out, "car"), out)),
    ):
        shown = re.findall(r"\]\((\S+\.png)\)", text)
        assert names <= {(page.parent / name).stem for name in shown}
        assert all((page.parent / name).exists() for name in shown)
