"""Estimators by hand, comparisons on the same episodes, and what is recorded beside a result."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_script

from controller.evolution import nothing_to_learn
from world_models import results, seeds, statistics, tasks
from world_models.config import UserError
from world_models.runs import packed, provenance, run_dir
from world_models.runs.command_log import log_command
from world_models.stages.evaluation import comparison, in_words, require_same_dreams


def row_of(returns, first: int = 0, task: str = "carracing") -> dict:
    row = results.identity(tasks.preset(task, "smoke"))
    return row | {"episodes": len(returns), "returns": list(returns), "seeds": [*range(first, first + len(returns))]}


def test_interquartile_mean():
    assert statistics.interquartile_mean([0.0, 10.0, 20.0, 1000.0]) == 15.0
    assert statistics.interquartile_mean([1.0, 2.0, 6.0]) == 3.0


def test_bootstrap_interval():
    assert statistics.interval([5.0, 5.0, 5.0]) == (5.0, 5.0)
    means = [700.0, 720.0, 810.0, 760.0, 790.0, 735.0]
    low, high = statistics.interval(means)
    assert min(means) < low < np.mean(means) < high < max(means)
    assert statistics.interval(means) == (low, high)
    # Of many, it is the normal one: 1.96 standard errors on either side.
    values = np.random.default_rng(1).normal(size=1000)
    low, high = statistics.interval(values)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 1000**0.5, rel=0.05)


def test_intervals_over_seeds():
    assert not statistics.over_seeds([8.9, 18.9])
    found = statistics.over_seeds([8.0, 11.0, 14.0])
    assert found["bootstrap"] == (8.0, 14.0)
    # By hand: the standard deviation is 3, so the mean's standard error the square root of 3.
    low, high = found["t"]
    assert (low + high) / 2 == pytest.approx(11) and (high - low) / 2 == pytest.approx(4.303 * 3**0.5)
    assert statistics.over_seeds(range(10)) == {"bootstrap": statistics.interval(range(10))}


@pytest.mark.parametrize("count", [3, 5, 9])
def test_an_interval_over_few_seeds_holds_the_mean_as_often_as_it_says(count):
    draws = np.random.default_rng(0).normal(size=(2000, count))
    half = statistics.STUDENT[count - 3] * np.array([statistics.standard_error(draw) for draw in draws])
    assert (np.abs(draws.mean(axis=1)) < half).mean() == pytest.approx(0.95, abs=0.015)


def test_fewer_than_ten_episodes_have_no_interval():
    assert statistics.summary(range(9))["interval"] is None
    low, high = statistics.summary(range(10))["interval"]
    assert 0 < low < 4.5 < high < 9
    nine, ten = (statistics.paired(row_of(range(count)), row_of([1.0] * count)) for count in (9, 10))
    assert nine["interval"] is None and len(ten["interval"]) == 2


def test_summary():
    found = statistics.summary([800.0, 900.0, 1000.0, 500.0], mark=900)
    assert (found["mean"], found["median"], found["interquartile_mean"], found["solved"]) == (800, 850, 850, 0.5)
    assert found["standard_error"] == pytest.approx(np.std([800, 900, 1000, 500], ddof=1) / 2)
    assert "solved" not in statistics.summary([1.0])


def test_paired_differences_take_shared_episodes_only():
    found = statistics.paired(row_of([5.0, 7.0, 9.0]), row_of([6.0, 9.0, 100.0], first=1))
    # Episodes 1 and 2: 7 - 6 and 9 - 9.
    assert (found["episodes"], found["mean"], found["better"]) == (2, 0.5, 0.75)
    assert found["standard_error"] == pytest.approx(0.5)  # of 1 and 0: 0.7071 / sqrt 2
    assert statistics.paired(row_of([1.0]), row_of([1.0], first=7)) is None


def test_comparison_with_another_run(tmp_path):
    other = row_of([700.0, 800.0])
    results.add(tmp_path / "results.json", other)
    text = comparison(row_of([710.0, 830.0, 5.0]), tmp_path)
    assert "on the same 2 episodes: +20.0 a return, standard error 10.0 (an interval takes 10 episodes)" in text
    assert "better in 100%" in text
    with pytest.raises(UserError, match=r"has no test of ViZDoom.* make it with: python evaluate.py"):
        comparison(row_of([1.0], task="doom"), tmp_path)
    with pytest.raises(UserError, match="has no test"):
        comparison(row_of([1.0], first=50), tmp_path)


def test_dreams_of_other_lengths_are_not_compared(tmp_path):
    config = tasks.preset("doom", "smoke")
    for name, changes in (("mine", {}), ("same", {"sigma": 0.2}), ("frames", {"dream_frames": 150})):
        run_dir.save(tasks.replace(config, **changes), tmp_path / name)
    require_same_dreams(tmp_path / "mine", tmp_path / "same")
    with pytest.raises(UserError, match="it dreams with --dream-frames 150"):
        require_same_dreams(tmp_path / "mine", tmp_path / "frames")


def test_a_comparison_is_of_the_same_arithmetic_where_there_is_one(tmp_path):
    for dtype, value in (("bfloat16", 100.0), ("float32", 200.0)):
        results.add(tmp_path / "results.json", row_of([value, value]) | {"dtype": dtype})
    assert "same 2 episodes: +10.0" in comparison(row_of([210.0, 210.0]), tmp_path)
    assert "same 2 episodes: +110.0" in comparison(row_of([210.0, 210.0]) | {"dtype": "bfloat16"}, tmp_path)


def test_dreams_of_different_ms_are_not_the_same_episodes(tmp_path):
    shipped = ROOT / "pretrained"
    colder = shipped / "doom" / "agents/seed-1,temperature-0.5"  # evolved on the same V and M
    require_same_dreams(shipped / "doom", colder)
    with pytest.raises(UserError, match="it dreams with another M"):
        require_same_dreams(shipped / "carracing", shipped / "doom")


def test_a_score_says_what_its_interval_covers():
    text = in_words(row_of([850.0, 950.0] * 10))
    assert "95% bootstrap interval of the mean over 20 episodes 880.0 to 920.0" in text and "50% reach 900" in text
    text = in_words(row_of([850.0, 950.0]))
    assert "standard error 50.0; an interval takes 10 episodes; interquartile mean 900.0; 50% reach 900" in text
    assert "reach 750" in in_words(row_of([850.0], task="doom"))


def test_every_run_has_the_same_test_episodes():
    # Those of seed 0, which the shipped agents were scored on.
    assert seeds.test_seeds(5) == seeds.episode_seeds(0, "test", 0, 5)
    for run in ("carracing", "carracing-v3", "doom"):
        rows = results.read(Path(__file__).parent.parent / "pretrained" / run / "results.json")
        assert rows and all(row["seeds"] == seeds.test_seeds(row["episodes"]) for row in rows)


def test_shipped_runs_are_packed_and_take_no_stage(tmp_path):
    shipped = ROOT / "pretrained" / "doom"
    said = run_script("tools.held_out", "--run", shipped, check=False).stderr
    assert "is a packed run and read-only: record with a run of your own, --from" in said and "--of" in said
    with pytest.raises(UserError, match=r"read-only: begin a run of your own with --run NEW --from .*doom"):
        run_dir.open_run(shipped, {})
    assert packed.is_packed(shipped / "agents/seed-1,temperature-0.5")
    run = tmp_path / "own"
    run_dir.save(tasks.preset("doom", "smoke"), run)
    assert run_dir.open_run(run, {}).task == "doom"


def test_equal_candidates_are_explained():
    dreaming, driving = tasks.preset("doom", "smoke"), tasks.preset("carracing", "smoke")
    text = nothing_to_learn(dreaming, 1, {"mean": 2100.0, "mean_steps": 2100.0})
    assert "all candidates equal (2100.0): nothing to learn here, since every dream lasts its full 2100 steps" in text
    assert "no candidate's actions" in nothing_to_learn(driving, 1, {"mean": 3.0, "mean_steps": 20.0})


def test_commands_and_results_say_what_they_were_made_with(tmp_path):
    with log_command(tmp_path):
        pass
    (path,) = (tmp_path / "commands").iterdir()
    line = json.loads(path.read_text())
    assert {"python", "tensorflow", "gymnasium", "numpy"} <= set(line["versions"])
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=provenance.ROOT, capture_output=True, text=True)
    assert (line["commit"] or "").rstrip("+") == git.stdout.strip()
