"""The model card: what stands in the README.md of a pack."""

import dataclasses
import re

from conftest import ROOT
from small_report import cells_of, make_car, make_run, result

from tools.reporting.card import card, front_matter, headlines, trained_on
from tools.reporting.runs import read_run
from world_models import tasks
from world_models.runs import files

MODEL_INDEX = """\
- name: "world-models-carracing"
  results:
  - task:
      type: reinforcement-learning
      name: reinforcement-learning
    dataset:
      name: "CarRacing-v0"
      type: "CarRacing-v0"
    metrics:
    - type: mean_reward
      value: 854.25 +/- 45.61
      name: "mean return of 3 episodes, standard error 32.25"
      verified: false
"""
SHIPPED = ("carracing", "carracing-v3", "doom")


def test_the_headline_comes_first_and_the_hub_gets_it(tmp_path):
    run = make_car(tmp_path / "car")
    page = card(read_run(run, "car"), run)
    _, front, body = page.split("---\n", 2)
    assert page.startswith("---\n") and front.startswith("license: mit\nlibrary_name: keras\n")
    assert {'- "reinforcement-learning"', '- "world-models"', '- "CarRacing-v0"'} <= set(front.splitlines())
    assert front.partition("model-index:\n")[2] == MODEL_INDEX
    first = body.strip().splitlines()
    assert first[0] == "# World Models: CarRacing-v0"
    scored = "This agent scores 854.2 ± 45.6 (standard error 32.2) over 3 episodes of CarRacing, view v0."
    assert first[2] == f"{scored} The paper reports 906 ± 21."
    assert 'load("car")' in body and "python evaluate.py --run car" in body and "MIT." in body
    assert "| max_frames | 300 | 1000 |" in body and "| z_size |" not in body  # which is the paper's


def test_each_view_is_one_metric_of_its_longest_test_in_float32(tmp_path):
    config = tasks.preset("carracing", "smoke")
    rows = [result(config, [1.0, 2.0], view="v3"), result(config, [3.0, 4.0]), result(config, [5.0] * 3)]
    rows.append(result(config, [9.0] * 9, dtype="bfloat16"))
    run = read_run(make_run(tmp_path / "car", config, rows), "car")
    assert [(row["view"], row["episodes"]) for row in headlines(run)] == [("v0", 3), ("v3", 2)]
    assert front_matter(run).count("type: mean_reward") == 2
    bare = read_run(make_run(tmp_path / "bare", config, [], trained=False), "bare")
    assert "model-index" not in front_matter(bare) and "was not tested yet" in card(bare, tmp_path / "bare")


def test_the_card_says_what_a_round_was_trained_on():
    first = tasks.preset("doom", "smoke")
    assert "episodes of the random policy" in trained_on(first)
    later = dataclasses.replace(first, round=3, episodes=300, linked_episodes=900, noisy_share=0.0)
    own = "V and M are trained on 300 episodes that the agent of round 2 recorded"
    assert trained_on(later) == f"{own}, and on the 900 of the rounds before."
    assert f"{own}, 30% with noise on C's outputs" in trained_on(dataclasses.replace(later, noisy_share=0.3))
    assert trained_on(dataclasses.replace(later, episodes=0)) == "V and M are those of round 2."


def test_a_card_has_the_agents_the_commands_and_the_notes(tmp_path):
    config = tasks.preset("doom", "smoke")
    run = make_run(tmp_path / "doom", config, [result(config, [800.0, 1000.0])])
    cold = dataclasses.replace(config, temperature=0.5)
    make_run(run / "agents/temperature-0.5", cold, [result(cold, [300.0, 500.0])])
    files.write_text(run / "notes.md", "V is *another* run's. <script>\n")
    found = read_run(run, "doom")
    found.made["vae.weights.h5"]["command"] = "train_vae.py --run runs/doom"
    page = card(found, run)
    rows = cells_of(page, "doom, agents, round 1, seed 0")
    assert [row[1] for row in rows] == ["ViZDoom, trained at τ 0.5"] and rows[0][4].startswith("400.0 ± 100.0")
    assert "python train_vae.py --run runs/doom\n" in page
    assert page.index("## Notes") < page.index("V is *another* run's. &lt;script>")


def test_cards_of_the_shipped_agents_are_short_and_their_links_exist():
    for name in SHIPPED:
        folder = ROOT / "pretrained" / name
        page = card(read_run(folder, name), folder)
        prose = [line for line in page.split("---\n", 2)[2].splitlines() if not line.startswith("|")]
        assert 300 < len(" ".join(prose).split()) < 1200
        links = re.findall(r"\]\(([^)]+)\)", page)
        assert len(links) >= 6 and all((folder / link).exists() for link in links)
        rounds = page.partition("## Rounds")[2].partition("## ")[0]
        assert len(re.findall(r"^\| \d", rounds, re.M)) == read_run(folder, name).config.round
        assert (folder / "README.md").read_text(encoding="utf-8") == page
