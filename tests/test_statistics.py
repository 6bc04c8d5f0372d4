"""Estimators by hand, comparisons on the same episodes, and what is recorded with a result."""

import subprocess

import numpy as np
import pytest
from conftest import ROOT, user_error
from small_report import make_run

from controller.evolution import explain_equal_fitness
from world_models import results, seeds, statistics, tasks
from world_models.config import UserError
from world_models.runs import manifest
from world_models.runs.run import Run
from world_models.stages.evaluation import comparison, format_summary


def row_of(returns, first: int = 0, task: str = "carracing") -> dict:
    row = results.identity(tasks.preset(task, "smoke"))
    row |= {"mean": float(np.mean(returns)), "std": float(np.std(returns))}
    return row | {"episodes": len(returns), "returns": list(returns), "seeds": [*range(first, first + len(returns))]}


def test_bootstrap_interval():
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
    assert statistics.interquartile_mean([1.0, 2.0, 6.0]) == 3.0


def test_paired_differences_take_shared_episodes_only():
    found = statistics.paired(row_of([5.0, 7.0, 9.0]), row_of([6.0, 9.0, 100.0], first=1))
    # Episodes 1 and 2: 7 - 6 and 9 - 9.
    assert (found["episodes"], found["mean"], found["better"]) == (2, 0.5, 0.75)
    assert found["standard_error"] == pytest.approx(0.5)  # of 1 and 0: 0.7071 / sqrt 2
    assert statistics.paired(row_of([1.0]), row_of([1.0], first=7)) is None


def run_with(path, rows: list[dict], task: str = "carracing"):
    return make_run(path, tasks.preset(task, "smoke"), rows, trained=False)


def test_comparison_with_another_run(tmp_path):
    other = run_with(tmp_path / "other", [row_of([700.0, 800.0])])
    text = comparison(row_of([710.0, 830.0, 5.0]), other)
    assert "on the same 2 episodes: +20.0 a return, standard error 10.0 (an interval takes 10 episodes)" in text
    assert "better in 100%" in text
    with pytest.raises(UserError, match=r"has no test of ViZDoom.* make it with: python evaluate.py"):
        comparison(row_of([1.0], task="doom"), other)
    with pytest.raises(UserError, match="has no test"):
        comparison(row_of([1.0], first=50), other)


def test_dreams_with_other_settings_or_another_m_are_not_compared(tmp_path):
    row = row_of([1.0], task="doom") | {"play_in": "dream", "temperature": 1.15, "rnn": "a"}
    assert "on the same 1 episodes" in comparison(row, run_with(tmp_path / "same", [row], "doom"))
    for name, value in {"dream_frames": 150, "dream_dropout": 0.1, "rnn": "b"}.items():
        other = run_with(tmp_path / name, [row | {name: value}], "doom")
        with pytest.raises(UserError, match=r"has no test of dream.* \(dreams are the same with the same M"):
            comparison(row, other)


def test_a_comparison_is_of_the_same_arithmetic_where_there_is_one(tmp_path):
    rows = [row_of([value] * 2) | {"dtype": dtype} for dtype, value in (("bfloat16", 100.0), ("float32", 200.0))]
    other = run_with(tmp_path / "other", rows)
    assert "same 2 episodes: +10.0" in comparison(row_of([210.0, 210.0]), other)
    assert "same 2 episodes: +110.0" in comparison(row_of([210.0, 210.0]) | {"dtype": "bfloat16"}, other)


def test_a_score_says_what_its_interval_covers():
    text = format_summary(row_of([850.0, 950.0] * 10))
    assert "95% bootstrap interval of the mean over 20 episodes 880.0 to 920.0" in text and "50% reach 900" in text
    text = format_summary(row_of([850.0, 950.0]))
    assert "standard error 50.0; an interval takes 10 episodes; interquartile mean 900.0; 50% reach 900" in text
    assert "reach 750" in format_summary(row_of([850.0], task="doom"))


def test_every_run_has_the_same_test_episodes():
    # Those of seed 0, which the shipped agents were scored on.
    assert seeds.test_seeds(5) == seeds.episode_seeds(0, "test", 0, 5)
    for run in ("carracing", "carracing-v3", "doom"):
        rows = results.read(Run(ROOT / "pretrained" / run))
        assert rows and all(row["seeds"] == seeds.test_seeds(row["episodes"]) for row in rows)


def test_shipped_runs_are_packs_and_take_no_stage(tmp_path):
    shipped = ROOT / "pretrained" / "doom"
    assert "begin a run of your own with: --run NEW --from" in user_error("train_vae.py", "--run", shipped)
    assert Run(shipped / "agents/seed-1,temperature-0.5").manifest.packed


def test_equal_candidates_are_explained():
    dreaming, driving = tasks.preset("doom", "smoke"), tasks.preset("carracing", "smoke")
    text = explain_equal_fitness(dreaming, 1, {"mean": 2100.0, "mean_steps": 2100.0})
    assert "all candidates scored 2100.0" in text and "every dream lasts its full 2100 steps" in text
    text = explain_equal_fitness(driving, 1, {"mean": 3.0, "mean_steps": 20.0})
    assert "the actions of no candidate made a difference" in text


def test_rows_of_the_manifest_say_what_a_file_was_made_with(tmp_path):
    run = Run(make_run(tmp_path / "car", tasks.preset("carracing", "smoke"), []))
    row = run.manifest.rows["rnn.weights.h5"]
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert (row["commit"] or "").rstrip("+") == git.stdout.strip() and row["machine"] == manifest.machine()
    assert row["made_from"] == {"vae.weights.h5": run.digest("vae.weights.h5")} and row["command"] == manifest.command()
    assert {"python", "tensorflow", "gymnasium", "numpy"} <= set(manifest.versions())
