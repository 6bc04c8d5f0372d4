"""The simulation of many ranks, against cases worked out by hand."""

import errno
import json
import os

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.figure import Figure

from tools import simulate_ranks, time_to_score
from tools.rank_times import Times, times_of
from tools.simulate_ranks import simulate
from world_models import published

EVEN = Times(models={1: 0.01, 4: 0.02}, env=0.001, message=0.0, search=0.0, lengths=(100, 100))


def test_one_episode_a_rank_takes_as_long_as_one_episode():
    found = simulate(EVEN, 8, 1, 4, 2)
    assert found["seconds"] == pytest.approx(100 * 0.011, abs=0.03)  # a rank that has nothing looks every 0.5 ms
    assert found["busy"] > 0.97 and found["lanes_busy"] > 0.97


def test_a_rank_steps_all_its_lanes_at_once():
    found = simulate(EVEN, 1, 4, 4, 2)  # eight episodes, four at a time
    assert found["seconds"] == pytest.approx(2 * 100 * 0.024)
    assert found["busy"] == pytest.approx(1) and found["steps_per_s"] == pytest.approx(8 * 100 / 4.8)


def test_ranks_without_episodes_wait():
    found = simulate(EVEN, 16, 1, 4, 2)
    assert found["busy"] == pytest.approx(0.5, abs=0.03)


def test_the_searchs_own_time_keeps_every_rank_waiting():
    slow = Times(models={1: 0.01}, env=0.0, message=0.0, search=1.0, lengths=(100, 100))
    assert simulate(slow, 4, 1, 4, 1)["busy"] == pytest.approx(0.5, abs=0.03)


def test_messages_load_rank_0():
    slow = Times(models={1: 0.01}, env=0.0, message=0.01, search=0.0, lengths=(100, 100))
    found = simulate(slow, 101, 1, 202, 1)
    assert found["root_messages"] > 0.3 and found["busy"] < simulate(EVEN, 101, 1, 202, 1)["busy"]


def test_every_episode_is_played():
    uneven = Times(models={4: 0.01}, env=0.001, message=1e-5, search=0.1, lengths=(50, 100))
    found = simulate(uneven, 7, 4, 30, 5)
    expected = np.random.default_rng(0).choice((50, 100), 150).sum()
    assert found["steps_per_s"] * found["seconds"] == pytest.approx(expected)


def test_the_documented_table_is_of_the_times_beside_it():
    held = json.loads((ROOT / "docs" / "ranks.json").read_text())
    times = times_of(held)
    rows = [row for row in simulate_ranks.table(times) if row["population"] <= 256]
    lines = [line for line in simulate_ranks.text(times, rows).splitlines() if line.startswith("|")]
    assert len(lines) == 8 and "\n".join(lines) in (ROOT / "docs" / "clusters.md").read_text()


def test_table_and_plot(tmp_path, monkeypatch):
    times = Times({n: 0.01 for n in simulate_ranks.LANES}, 0.001, 1e-5, 0.1, (900, 1000))
    monkeypatch.setattr(simulate_ranks, "RANKS", (4, 16))
    rows = simulate_ranks.table(times)
    assert [(row["ranks"], row["lanes"]) for row in rows[:2]] == [(4, 48), (16, 48)]
    assert "| 64 x 16 | 4 | 48 |" in simulate_ranks.text(times, rows)
    simulate_ranks.draw(rows, tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").stat().st_size > 10_000
    json.dumps(rows)


def test_seconds_to_a_score_are_those_of_the_first_scoring_that_has_it():
    history = [
        {"seconds": 10, "evaluation": None},
        {"seconds": 20, "evaluation": {"mean": 650}},
        {"seconds": 30, "evaluation": {"mean": 590}},
        {"seconds": 40, "evaluation": {"mean": 700}},
    ]
    found = time_to_score.seconds_to(history)
    assert found == {"seconds_to_600": 20, "seconds_to_700": 40, "seconds_to_800": None}
    first = published.read()["training_curves"]["carracing"]["evaluation"][0]
    assert first[2] > 800 and set(time_to_score.published_seconds("carracing").values()) == {first[1]}


def test_the_search_goes_on_until_it_scores_the_mark(car_run, tmp_path, monkeypatch):
    """A mark that random play has: reached at the first scoring."""
    monkeypatch.setattr(time_to_score, "CHUNK", 2)
    run = tmp_path / "scored"
    found = time_to_score.time_to_score(car_run, run, 1, marks=(-1000,), flags=("--eval-every", "2"))
    lines = [json.loads(line) for line in (run / "controller" / "history.jsonl").read_text().splitlines()]
    assert found == {"seconds_to_-1000": lines[1]["seconds"]} and len(lines) == 2
    monkeypatch.setattr(time_to_score, "LONGEST", 4)
    for _ in range(2):  # given up, and asked again
        assert time_to_score.time_to_score(car_run, run, 1, marks=(5000,)) == {"seconds_to_5000": None}
    assert time_to_score.time_to_score(car_run, run, 1, marks=(-1000,)) == found
    assert len((run / "controller" / "history.jsonl").read_text().splitlines()) == 4


def test_a_plot_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    (tmp_path / "ranks.png").write_text("earlier")

    def full(self, path, **_):
        path.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match=r"ranks\.png"):
        simulate_ranks.draw([], tmp_path / "ranks.png")
    assert [path.name for path in tmp_path.iterdir()] == ["ranks.png"]
    assert (tmp_path / "ranks.png").read_text() == "earlier"
