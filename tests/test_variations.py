"""Agents of several settings on one V and M (`--vary`): their settings, folders, tests and table."""

import dataclasses

import pytest
from small_run import evolve, make_run, new_run

from world_models import results, tasks
from world_models.config import FEATURES, UserError
from world_models.mpi import Alone
from world_models.runs.artifacts import M, V
from world_models.runs.begin import begin_agent
from world_models.runs.run import Run
from world_models.stages import evaluation, variations


def test_every_combination_is_an_agent_of_its_own():
    found = variations.parse(["temperature=0.5,1.15", "seed=1,2", "play_in=dream"])
    assert found[1] == {"seed": 1, "play_in": "dream", "temperature": 1.15} and len(found) == 4
    assert variations.parse(["play_in=dream", "seed=1,2", "temperature=0.5,1.15"]) == found
    names = [variations.folder_name(varied) for varied in found]
    assert names[2] == "seed-2,play_in-dream,temperature-0.5" and len(set(names)) == 4
    assert variations.parse(["seed=1,1,2"]) == [{"seed": 1}, {"seed": 2}]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["seed"], "--seed: expected an integer, got ''"),
        (["seed=1,x"], "--seed: expected an integer, got 'x'"),
        (["seed=-1"], "--seed: expected at least 0, got -1"),
        (["temperature=nan"], "--temperature: expected at least 1e-30"),
        (["temperature=0.5,0"], "--temperature: expected at least 1e-30, got 0.0"),
        (["features=zh,h"], f"--features: expected one of {', '.join(FEATURES)}, got 'h'"),
        (["z-size=16,32"], "--vary z-size=16,32: expected SETTING=VALUE,VALUE of one of seed, play-in, temperature"),
        (["rollouts=4,8"], "--rollouts: expected a count or a schedule"),
        (["seed=1", "seed=2"], "--vary seed=2: seed is given twice"),
    ],
)
def test_invalid_variations_are_refused(texts, message, tmp_path):
    run = new_run(tmp_path, "doom")
    with pytest.raises(UserError, match=message):
        for varied in variations.parse(texts):
            variations.configured(run, {}, varied)


@pytest.mark.parametrize(
    ("given", "varied", "message"),
    [
        ({"play_in": "dream"}, {"seed": 1}, "--play-in dream: this M of CarRacing predicts no reward"),
        ({}, {"temperature": 0.5}, "--vary temperature: the real environment has none; add --play-in dream"),
    ],
)
def test_an_agent_that_cannot_be_evolved_is_refused_before_the_first_is(given, varied, message, tmp_path):
    run = make_run(tmp_path / "car")
    with pytest.raises(UserError, match=message):
        variations.evolve_and_test(Alone(), run, given, [{"seed": 1}, varied], 1)
    assert not (run / "agents").exists()


def test_the_table_has_the_mean_over_seeds():
    row = results.identity(tasks.preset("carracing", "smoke")) | {"mean": 800.0, "std": 50.0}
    lines = [({"features": "z", "seed": seed}, row | {"mean": 800.0 + 10 * seed}) for seed in (1, 2, 3)]
    lines.append(({"features": "zh", "seed": 1}, row))
    *agents, over_seeds = variations.table(lines).splitlines()
    assert len(agents) == 5 and agents[1].split()[0] == "features-z,seed-1" and agents[1].endswith("810.0 ± 50.0")
    assert over_seeds.startswith("features-z 3 seeds") and over_seeds.endswith("820.0, standard error 5.8")


def add_test(run: Run, best: dict) -> dict:
    """Adds a test of the agent to results.json."""
    row = evaluation.identity(run, run.config, best)
    row |= {"mean": 9.0, "std": 0.0, "returns": [9.0], "seeds": [1], "episodes": 1}
    results.add(run, row)
    return results.read(run)[-1]


def test_only_a_test_of_this_agent_counts(tmp_path):
    run = make_run(tmp_path / "car")
    best = evolve(run).best
    row = add_test(run, best)
    assert variations.tested(run, run.config, 1) == row
    assert variations.tested(run, run.config, 2) is None
    assert variations.tested(run, dataclasses.replace(run.config, view="v3"), 1) is None
    other = make_run(tmp_path / "other")
    add_test(other, {**evolve(other).best, "parameters": [0.0]})
    assert variations.tested(other, other.config, 1) is None


def test_an_agent_that_exists_with_other_settings_is_refused(tmp_path):
    run = make_run(tmp_path / "car")
    begin_agent(run, "seed-1", variations.configured(run, {"sigma": 0.2}, {"seed": 1}))
    with pytest.raises(UserError, match=r"--sigma 0\.1: .*seed-1 was made with --sigma 0\.2; give that, or delete"):
        variations.configured(run, {}, {"seed": 1})
    longer = variations.configured(run, {"sigma": 0.2, "generations": run.config.generations + 2}, {"seed": 1})
    assert begin_agent(run, "seed-1", longer).config.generations == run.config.generations + 2


def test_another_c_does_not_go_on_from_the_round_before(tmp_path):
    run = make_run(tmp_path / "car")
    run.save_config(dataclasses.replace(run.config, round=2, linked_episodes=1))
    assert variations.configured(run, {}, {"seed": 1}).search_start == "zero"  # a pack has no V of the round before
    make_run(tmp_path / "car/before")
    assert variations.configured(run, {}, {"seed": 1}).search_start == "previous"
    with pytest.raises(UserError, match="C of the round before sees zh; add --search-start zero"):
        variations.configured(run, {}, {"features": "z"})
    assert variations.configured(run, {"search_start": "zero"}, {"features": "z"}).features == "z"


def test_an_agent_that_exists_is_neither_evolved_nor_tested_again(tmp_path, monkeypatch):
    """A packed agent has no checkpoint, and counts as well."""
    run = make_run(tmp_path / "car")
    agent = begin_agent(run, "seed-1", variations.configured(run, {"generations": 3}, {"seed": 1}))
    assert not variations.evolved(agent) and (agent / V).is_symlink() and agent.is_current(M)
    best = evolve(agent).best
    (agent / "controller/checkpoint.npz").unlink()
    add_test(agent, best)
    for name in ("evolve", "evaluation.evaluate"):
        monkeypatch.setattr(f"world_models.stages.variations.{name}", None)
    variations.evolve_and_test(Alone(), run, {"generations": 3}, [{"seed": 1}], 1)
    assert not variations.evolved(Run(agent.path, dataclasses.replace(agent.config, generations=4)))
