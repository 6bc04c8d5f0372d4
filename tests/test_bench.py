"""The bench: what it measures and reports, not how fast it is."""

import json

import pytest

from tools import bench
from world_models import published, tasks
from world_models.world_model import make_vae


def test_rates_are_units_over_time(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    assert bench.median_rate(lambda: 8, repeats=3) == 4.0  # of 4, 8 and 2; the warm-up is not timed


def test_agents_are_measured_on_ranks_of_their_own(tmp_path):
    bench.make_run(tmp_path / "car", "carracing")
    found = bench.agents(tmp_path / "car", 2, 4)
    assert found["rate"] > 0 and found["memory"] > 100
    assert sum(found["split"].values()) == pytest.approx(1, abs=0.01)


def test_the_report_states_ratios():
    car, doom = (bench.CURVES[task]["agent_steps_per_second_on_64_cores"] for task in ("carracing", "doom"))
    agent = {"ranks_1": car, "ranks_2": 1.9 * car, "ranks_2_bfloat16": 3.8 * car, "batch_1": 0.5 * car}
    train = {"vae_frames_per_s": 300, "rnn_tokens_per_s": 99_900, "vae_flops": 6e10, "rnn_flops": 3e10}
    figures = {
        "env": {"gymnasium": 100, "v0": 4000, "v3": 3000, "doom": 500},
        "agent": agent | {"split": {"env": 0.4, "models": 0.5, "waiting": 0.1}},
        "memory": {"rank_mb": 900},
        "dream": {"steps_per_s": 2 * doom, "single": 900, "vector": 27_000},
        "train": train | {"matmul_flops": 1e11},
        "seconds_to_score": {"600": 1200.0, "800": None},
    }
    text = bench.report(figures)
    said = ["40.0 x", "30.0 x", "1.90 x one rank, 1.9 x the paper's", "2.00 x float32", "3.8 x batch 1", "env 40%"]
    said += ["2.0 x the paper's", "60% of a large matrix product's", "1.00 s a step, 30% of the same", "30 x one"]
    for words in [*said, "1,200  s on 2 ranks; published: at most 56,142 s on 64 cores"]:
        assert words in text
    assert "to a score of 800" in text and "nan" in text.splitlines()[-1]


def test_products_of_a_forward_pass_of_v():
    down = 32 * 48 * 31**2 + 64 * 512 * 14**2 + 128 * 1024 * 6**2 + 256 * 2048 * 2**2
    up = 1024 * 128 * 25 + 128 * 64 * 25 * 5**2 + 64 * 32 * 36 * 13**2 + 32 * 3 * 36 * 30**2
    assert bench.vae_products(make_vae(tasks.preset("carracing", "paper"))) == down + 3 * 1024 * 32 + up


def test_seconds_to_a_score_are_those_of_the_first_evaluation_that_has_it():
    found = bench.seconds_to([(20, 650), (30, 590), (40, 700)])
    assert found == {"600": 20, "700": 40, "800": None}
    first = published.read()["training_curves"]["carracing"]["evaluation"][0]
    assert first[2] > 800


def test_a_search_is_timed_to_its_scores(car_run, tmp_path):
    run = tmp_path / "scored"
    found = bench.time_to_score(run, car_run, 2)
    history = [json.loads(line) for line in (run / "controller" / "history.jsonl").read_text().splitlines()]
    assert len(history) == 2 and found == dict.fromkeys(("600", "700", "800"))
