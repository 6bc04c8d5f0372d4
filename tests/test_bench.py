"""The measurements: what they measure and report, not how fast it is."""

import pytest

from tools import bench, speeds


def test_rates_are_units_over_time(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0])
    monkeypatch.setattr(speeds.time, "perf_counter", lambda: next(clock))
    assert speeds.median_rate(lambda: 8, repeats=3) == 4.0  # of 4, 8 and 2; the warm-up is not timed


def test_agents_are_measured_on_ranks_of_their_own(tmp_path):
    speeds.make_run(tmp_path / "car", "carracing")
    found = speeds.agents(tmp_path / "car", 2, 4)
    assert found["rate"] > 0 and found["memory"] > 100
    assert sum(found["split"].values()) == pytest.approx(1, abs=0.01)


def test_report_states_ratios():
    figures = {
        "env": {"gymnasium": 100, "v0": 4000, "v3": 3000, "doom": 500},
        "agent": {
            "ranks_1": 1000,
            "ranks_2": 1900,
            "ranks_2_bfloat16": 2500,
            "batch_1": 500,
            "split": {"env": 0.4, "models": 0.5, "waiting": 0.1},
        },
        "memory": {"rank_mb": 900},
        "dream": {"steps_per_s": 2 * bench.PAPER["doom"], "single": 900, "vector": 27_000},
        "train": {"vae_frames_per_s": 300, "rnn_tokens_per_s": 99_900},
    }
    text = bench.report(figures)
    for words in (
        "40.0 x",
        "30.0 x",
        "1.90 x one rank",
        "3.8 x batch 1",
        "env 40%",
        "2.0 x the paper's",
        "1.00 s a step",
        "30 x one environment",
    ):
        assert words in text
