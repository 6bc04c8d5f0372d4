"""The search as a whole: which candidate has which fitness, and which episodes it is of. Its optimizers have tests of
their own, and so has real play."""

import dataclasses
import json

import numpy as np
import pytest
from small_play import Alone

from controller import evolution, lanes
from controller.policy import Controller
from controller.tracks import Tracks
from world_models import tasks
from world_models.runs import run_dir

CONFIG = dataclasses.replace(
    tasks.preset("carracing", "smoke"),
    dtype="float32",
    features="z",
    population=8,
    rollouts="2",
    seeds="common",
    optimizer="cma",
    sigma=0.1,
    eval_every=30,
    eval_episodes=4,
)
SIZE, GOAL = Controller.of(CONFIG).num_params, 0.3


def score(params: np.ndarray, seed: int) -> float:
    """Of an episode: the nearer to GOAL the parameters the more, and more or less by the track."""
    return float(seed % 7 - ((params - GOAL) ** 2).sum())


class Hill:
    """Lanes that play no game: an episode returns its `score`, after one step. They finish in another order than that
    in which they start."""

    count = 3

    def __init__(self, run, config):
        self.config, self.played, self.waiting = config, [], []

    def start(self, lane: int, params: np.ndarray, seed: int, patience: int = 0) -> None:
        self.played.append((params.copy(), seed))
        self.waiting.append((lane, score(params, seed), 1))

    def advance(self) -> list[tuple[int, float, int]]:
        ended, self.waiting = self.waiting[::-1], []
        return ended

    def close(self) -> None:
        pass


@pytest.fixture
def evolved(tmp_path, monkeypatch):
    """evolve(...): the history of a search on the hill, with the lanes that played and what the search was told."""

    def evolve(**changes):
        config = dataclasses.replace(CONFIG, **changes)
        run = tmp_path / str(len(list(tmp_path.iterdir())))
        run_dir.save(config, run)
        made, told, asked = [], [], []
        monkeypatch.setattr(lanes, "make_lanes", lambda *a: made.append(Hill(*a)) or made[-1])
        make = evolution.make_optimizer

        def optimizer(*arguments):
            es = make(*arguments)
            ask, tell = es.ask, es.tell
            es.ask = lambda: asked.append(ask()) or asked[-1]
            es.tell = lambda fitness: told.append(fitness) or tell(fitness)
            return es

        monkeypatch.setattr(evolution, "make_optimizer", optimizer)
        evolution.evolve(Alone(), run, config)
        monkeypatch.undo()
        history = [json.loads(line) for line in (run / "controller" / "history.jsonl").read_text().splitlines()]
        return history, asked, told

    return evolve


@pytest.mark.parametrize("seeds", ["common", "pairs"])
def test_each_candidate_is_told_the_mean_return_of_its_own_episodes(evolved, seeds):
    config = dataclasses.replace(CONFIG, seeds=seeds)
    history, asked, told = evolved(seeds=seeds, generations=3)
    for generation, (line, candidates, fitness) in enumerate(zip(history, asked, told, strict=True), 1):
        own = Tracks(config).plan(generation)
        expected = [np.mean([score(one, seed) for seed in row]) for one, row in zip(candidates, own, strict=True)]
        np.testing.assert_allclose(fitness, expected)
        assert line["mean"] == pytest.approx(np.mean(expected)) and line["std"] == pytest.approx(np.std(expected))
        assert (line["min"], line["max"]) == pytest.approx((min(expected), max(expected)))


def test_the_search_climbs(evolved):
    history, _, _ = evolved(generations=60)
    reached = [line["evaluation"]["mean"] for line in history if line["evaluation"]]
    assert history[0]["mean"] < reached[0] < reached[1]


def test_a_bonus_is_for_large_weights_and_stands_in_no_score(evolved):
    """As the release has it, by mistake."""
    plain, asked, told = evolved(generations=1)
    with_bonus, same, more = evolved(generations=1, weight_bonus=0.5)
    np.testing.assert_array_equal(asked[0], same[0])
    np.testing.assert_allclose(more[0] - told[0], 0.5 * (asked[0] ** 2).mean(axis=1))
    assert with_bonus[0]["mean"] == plain[0]["mean"]


def test_no_two_rounds_play_the_same_tracks():
    """Nor two generations, nor the scorings of the mean."""
    plans = [
        set(Tracks(dataclasses.replace(CONFIG, round=number)).plan(generation).flat)
        for number in (1, 2, 3)
        for generation in (1, 2, 50)
    ]
    assert sum(map(len, plans)) == len(set.union(*plans)) == 9 * 2


def test_half_of_replayed_tracks_are_the_hardest_met():
    config = dataclasses.replace(CONFIG, tracks="replay", rollouts="8")
    tracks = Tracks(config)
    first = tracks.plan(1)
    assert len(np.unique(first)) == 8 and (first == first[0]).all()
    tracks.learn(first, np.where(first % 2, 900.0, 100.0 + first % 100))  # even tracks are lost
    hardest = sorted(np.unique(first[first % 2 == 0]), key=lambda seed: seed % 100)[:4]
    second = tracks.plan(2)
    assert set(second[0, :4]) == set(hardest) and not set(second[0, 4:]) & set(first.flat)
    np.testing.assert_array_equal(Tracks(config, tracks.loss).plan(2), second)  # as after a resume


def test_the_average_of_the_last_means_is_scored_too(evolved):
    history, _, _ = evolved(generations=4, average=2)
    scored = [line["evaluation"] for line in history if line["evaluation"]]
    assert all({"mean", "average"} <= score.keys() for score in scored)
    assert scored[-1]["average"]["mean"] != scored[-1]["mean"]
