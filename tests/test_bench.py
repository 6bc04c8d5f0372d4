"""The bench: what it measures and reports, not how fast it is."""

from tools import bench


def test_rates_are_units_over_time(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    assert bench.median_rate(lambda: 8, repeats=3) == 4.0  # of 4, 8 and 2; the warm-up is not timed


def test_agents_are_measured_on_ranks_of_their_own(tmp_path):
    bench.make_run(tmp_path / "car", "carracing")
    found = bench.agents(tmp_path / "car", 2, 4)
    assert found["rate"] > 0 and found["memory"] > 100


def test_the_report_states_ratios():
    car, doom = (bench.CURVES[task]["agent_steps_per_second_on_64_cores"] for task in ("carracing", "doom"))
    agent = {"ranks_1": car, "ranks_2": 1.9 * car, "ranks_2_bfloat16": 3.8 * car, "batch_1": 0.5 * car}
    figures = {
        "env": {"gymnasium": 100, "v0": 4000, "v3": 3000, "doom": 500},
        "agent": agent,
        "memory": {"rank_mb": 900},
        "dream": {"steps_per_s": 2 * doom, "single": 900, "vector": 27_000},
        "train": {"vae_frames_per_s": 300, "rnn_tokens_per_s": 99_900},
    }
    text = bench.report(figures)
    said = ["40.0 x", "30.0 x", "1.90 x one rank, 1.9 x the paper's", "2.00 x float32", "3.8 x batch 1"]
    said += ["2.0 x the paper's", "1.00 s a step", "30 x one"]
    assert not [words for words in said if words not in text]
