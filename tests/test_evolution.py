"""The search as a whole: each candidate's fitness, its episodes, the progress bar, and its files."""

import json
from dataclasses import replace

import numpy as np
import pytest
from small_run import edit_json, evolve, new_run, size_of

from controller import checkpoint, evolution, lanes
from controller.evolution import DECIMALS, Evolution
from controller.policy import Controller
from controller.rollout import Step
from controller.watchers import Bar
from world_models import progress, seeds, tasks
from world_models.config import UserError
from world_models.mpi import Alone
from world_models.runs import files
from world_models.tracks import Tracks

SEARCH = dict(
    z_size=32, features="z", population=8, rollouts="2", seed_sharing="common", eval_every=30, eval_episodes=4
)
CONFIG = tasks.replace(tasks.preset("carracing", "smoke"), **SEARCH)
GOAL = 0.3


def score(params: np.ndarray, seed: int) -> float:
    """An episode's return: it grows as the parameters approach GOAL, and depends on the track."""
    return float(seed % 7 - ((params - GOAL) ** 2).sum())


class Hill:
    """Lanes without a game: an episode returns its `score` after one step. They finish in another order than that in
    which they start."""

    count = 3

    def __init__(self, run, config=None, **options):
        self.config, self.waiting, self.envs = config or run.config, [], []

    def start(self, lane: int, params: np.ndarray, seed: int, noise: float = 0.0) -> None:
        self.waiting.append((lane, score(params, seed), 1))

    def advance(self) -> Step:
        ended, self.waiting = self.waiting[::-1], []
        return Step([lane for lane, *_ in ended], ended, np.zeros(3))

    def close(self) -> None:
        pass


@pytest.fixture
def evolved(tmp_path, monkeypatch):
    """evolve(...): the history of a search on the hill, its candidates, and what the search was told."""

    def evolve(**changes):
        run = new_run(tmp_path / str(len(list(tmp_path.iterdir()))), **SEARCH | changes)
        told, asked = [], []
        monkeypatch.setattr(lanes, "make_lanes", Hill)
        make = evolution.make_search

        def make_search(*arguments):
            search = make(*arguments)
            ask, tell = search.ask, search.tell
            search.ask = lambda: asked.append(ask()) or asked[-1]
            search.tell = lambda fitness: told.append(fitness) or tell(fitness)
            return search

        monkeypatch.setattr(evolution, "make_search", make_search)
        evolution.evolve(Alone(), run)
        monkeypatch.undo()
        return files.read_lines(run / "controller/history.jsonl"), asked, told

    return evolve


@pytest.mark.parametrize("seeds", ["common", "pairs"])
def test_each_candidate_is_told_the_mean_return_of_its_own_episodes(evolved, seeds):
    history, asked, told = evolved(seed_sharing=seeds, generations=3)
    for generation, (line, candidates, fitness) in enumerate(zip(history, asked, told, strict=True), 1):
        own = Tracks(replace(CONFIG, seed_sharing=seeds)).plan(generation)
        expected = [np.mean([score(one, seed) for seed in row]) for one, row in zip(candidates, own, strict=True)]
        np.testing.assert_allclose(fitness, expected)
        assert line["mean"] == pytest.approx(np.mean(expected)) and line["std"] == pytest.approx(np.std(expected))
        assert (line["min"], line["max"]) == pytest.approx((min(expected), max(expected)))


def test_a_bonus_rewards_large_weights_and_is_part_of_no_score(evolved):
    plain, asked, told = evolved(generations=1)
    with_bonus, same, more = evolved(generations=1, weight_bonus=0.5)
    np.testing.assert_array_equal(asked[0], same[0])
    np.testing.assert_allclose(more[0] - told[0], 0.5 * (asked[0] ** 2).mean(axis=1))
    assert with_bonus[0]["mean"] == plain[0]["mean"]


def test_the_search_climbs_and_the_average_of_its_last_means_is_scored_too(evolved):
    history, _, _ = evolved(generations=60, average=2)
    scored = [line["evaluation"] for line in history if line["evaluation"]]
    assert history[0]["mean"] < scored[0]["mean"] < scored[1]["mean"]
    assert all({"mean", "average"} <= found.keys() for found in scored)
    assert scored[-1]["average"]["mean"] != scored[-1]["mean"]


@pytest.mark.parametrize("average", [0, 2])
def test_the_bar_moves_within_a_generation_and_ends_at_100_percent(evolved, monkeypatch, average):
    """8 candidates play 2 episodes in each of 3 generations. Generations 2 and 3 also score agents in 4 episodes."""
    made, positions, real = [], [], progress.bar

    def progress_bar(**options):
        made.append(real(**options))
        update = made[0].update
        made[0].update = lambda n: (update(n), positions.append(made[0].n))
        return made[0]

    monkeypatch.setattr(progress, "bar", progress_bar)
    evolved(generations=3, eval_every=2, average=average)
    [shown] = made
    assert shown.total == shown.n == 3 * 16 + 2 * 4 * (2 if average else 1)
    assert set(range(1, shown.total + 1)) == set(positions) and positions == sorted(positions)


def test_the_bar_of_several_ranks_stays_within_its_generation():
    """Rank 0 counts its own episodes for all ranks; at the end of a generation the number is exact."""
    comm = Alone()
    comm.size = 3
    shown, positions = Bar(comm, 68, "", 32), []  # resumed after two generations of 16 episodes
    shown.begin("generation 3", 16)
    for _ in range(9):
        shown.end(0, 0, 1.0, 1)
        positions.append(shown.tqdm.n)
    assert positions == [35, 38, 41, 44, 47, 48, 48, 48, 48]
    shown.finish()
    shown.begin("generation 4", 20)
    shown.end(0, 0, 1.0, 1)
    assert shown.tqdm.n == 51
    shown.finish()
    assert shown.tqdm.n == shown.tqdm.total
    shown.tqdm.close()


def test_pairs_share_seeds_and_generations_do_not():
    config = tasks.preset("carracing", "paper")
    rows = Tracks(config).plan(1)
    assert rows.shape == (64, 16)
    np.testing.assert_array_equal(rows[:32], rows[32:])
    assert len(np.unique(rows)) == 32 * 16


def test_common_seeds_follow_the_schedule_and_no_two_generations_or_rounds_share_one():
    config = replace(CONFIG, rollouts="4,3:8")
    plans = [Tracks(replace(config, round=number)).plan(k) for number in (1, 2, 3) for k in (1, 2, 3, 50)]
    assert [plan.shape for plan in plans] == [(8, episodes) for episodes in (4, 4, 8, 8)] * 3
    assert all((plan == plan[0]).all() for plan in plans)
    assert len(set().union(*(plan.flat for plan in plans))) == 3 * (4 + 4 + 8 + 8)


def test_half_of_replayed_tracks_are_the_hardest_so_far():
    config = replace(CONFIG, tracks="replay", rollouts="8")
    tracks = Tracks(config)
    first = tracks.plan(1)
    assert len(np.unique(first)) == 8 and (first == first[0]).all()
    tracks.learn(first, np.where(first % 2, 900.0, 100.0 + first % 100))  # even tracks score low
    hardest = sorted(np.unique(first[first % 2 == 0]), key=lambda seed: seed % 100)[:4]
    second = tracks.plan(2)
    assert set(second[0, :4]) == set(hardest) and not set(second[0, 4:]) & set(first.flat)
    np.testing.assert_array_equal(Tracks(config, tracks.loss).plan(2), second)  # as after a resume


def test_purposes_never_share_an_episode():
    ranges = [set(seeds.episode_seeds(7, purpose, 0, 5000)) for purpose in seeds.PURPOSES]
    assert all(len(r) == 5000 for r in ranges)
    assert len(set.union(*ranges)) == 5000 * len(seeds.PURPOSES)
    assert max(set.union(*ranges)) < 2**31


def test_the_best_agent_is_kept_and_of_equal_ones_the_later(tmp_path):
    run = new_run(tmp_path / "run", population=8)
    found = Evolution(run, size_of(run.config))
    kept = []
    for mean in (10.0, 30.0, 20.0, 30.0):
        returns = np.arange(8.0)[:, None]
        found.learn(found.search.ask(), np.zeros((8, 1), int), returns, np.full((8, 1), 60))
        agent = np.round(np.full(9, len(kept) / 100 + 0.00001), DECIMALS)
        found.evaluated({"mean": agent}, {"mean": np.array([mean - 1, mean + 1])})
        found.save(1.5)
        kept.append((found.best["generation"], found.best["score"]))
    assert kept == [(1, 10), (2, 30), (2, 30), (4, 30)]
    assert found.best["parameters"] == [0.03] * 9  # rounded to 4 decimals
    lines = files.read_lines(run / "controller/history.jsonl")
    assert lines[0]["std"] == np.arange(8.0).std() and [line["seconds"] for line in lines] == [1.5, 3.0, 4.5, 6.0]
    assert json.loads((run / "controller/best.json").read_text(encoding="utf-8")) == found.best


def test_a_search_resumes_with_its_whole_state(tmp_path):
    run = new_run(tmp_path / "run", average=2, tracks="replay")
    made = evolve(run)
    again = Evolution(run, size_of(run.config))
    for name in ("history", "best", "seconds", "means"):
        assert getattr(again, name) == getattr(made, name), name
    assert again.tracks.loss == made.tracks.loss and len(again.means) == 2
    np.testing.assert_array_equal(again.search.ask(), made.search.ask())


def test_a_search_that_was_killed_after_its_last_checkpoint_publishes_it_when_it_resumes(tmp_path):
    run = new_run(tmp_path / "run")
    made = evolve(run)
    texts = {name: (run / f"controller/{name}").read_text() for name in ("history.jsonl", "best.json")}
    run.write_text("controller/history.jsonl", texts["history.jsonl"].partition("\n")[0] + "\n")
    run.write_text("controller/best.json", json.dumps(made.best | {"generation": 1}) + "\n")
    Evolution(run, size_of(run.config))
    assert texts == {name: (run / f"controller/{name}").read_text() for name in texts}
    edit_json(run / "controller/best.json", score=1.0)
    with pytest.raises(UserError, match=r"best\.json was modified"):
        Evolution(run, size_of(run.config))


@pytest.mark.parametrize(
    "change",
    [
        lambda extra: extra.pop("history"),
        lambda extra: extra.update(history=extra["history"][1:]),
        lambda extra: extra["history"][0].pop("mean"),
        lambda extra: extra["history"][0].update(mean=float("inf")),
        lambda extra: extra["history"][0].update(evaluation="x"),
        lambda extra: extra["best"].update(parameters=[0.5]),
        lambda extra: extra.update(means=[[1.0]]),
        lambda extra: extra.update(tracks={"x": 1}),
        lambda extra: extra.update(seconds=None),
    ],
)
def test_a_crafted_history_is_refused(change, tmp_path):
    run = new_run(tmp_path / "run")
    made = evolve(run)
    extra = {"history": made.history, "best": made.best, "seconds": 1.0, "means": [], "tracks": {}}
    change(extra)
    with run.write("controller/checkpoint.npz") as tmp:
        checkpoint.save(made.search, tmp, extra)
    with pytest.raises(UserError, match=r"checkpoint\.npz is not a checkpoint of this search: .*; delete it"):
        Evolution(run, size_of(run.config))


def test_an_agent_without_a_checkpoint_is_not_overwritten(tmp_path):
    run = new_run(tmp_path / "run")
    evolve(run)
    (run / "controller/checkpoint.npz").unlink()
    with pytest.raises(UserError, match=r"best\.json has no checkpoint\.npz to resume from; .* --after .*: --from"):
        Evolution(run, size_of(run.config))
    edit_json(run / "controller/best.json", score=1.0)
    with pytest.raises(UserError, match=r"best\.json was modified"):
        Evolution(run, Controller.of(run.config).num_params)
