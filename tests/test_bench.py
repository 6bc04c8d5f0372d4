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
    figures = {"gymnasium": 100, "v0": 4000, "v3": 3000, "doom": 500, "rank_mb": 900, "vae_frames": 300}
    figures |= {"agents_1_rank": car, "agents_2_ranks": 1.9 * car, "agents_bfloat16": 3.8 * car}
    figures |= {"agents_batch_1": 0.5 * car, "dreams": 2 * doom, "dream_single": 900, "dream_vector": 27_000}
    text = bench.report(figures | {"rnn_tokens": 99_900})
    said = ["40.0 x", "30.0 x", "1.90 x one rank, 1.9 x the paper's", "2.00 x float32", "3.8 x batch 1"]
    said += ["2.0 x the paper's", "1.00 s a step", "30 x one"]
    assert not [words for words in said if words not in text]
