"""Agents of several settings on one V and M: what --vary means, and what its table says."""

import dataclasses

import pytest
from small_run import evolve, make_run

from world_models import mpi, results, tasks
from world_models.config import UserError
from world_models.runs import integrity, run_dir
from world_models.stages import variations


def test_every_combination_is_an_agent_of_its_own():
    found = variations.parse(["temperature=0.5,1.15", "seed=1,2", "env=dream"])
    assert found[1] == {"seed": 1, "env": "dream", "temperature": 1.15} and len(found) == 4
    assert variations.parse(["env=dream", "seed=1,2", "temperature=0.5,1.15"]) == found
    names = [variations.folder_name(varied) for varied in found]
    assert names[2] == "seed-2,env-dream,temperature-0.5" and len(set(names)) == 4
    assert variations.parse(["rollouts=4/1,15:2"]) == [{"rollouts": "4"}, {"rollouts": "1,15:2"}]
    assert variations.parse(["seed=1,1,2"]) == [{"seed": 1}, {"seed": 2}]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["seed"], "--seed: expected a whole number, got ''"),
        (["seed=1,x"], "--seed: expected a whole number, got 'x'"),
        (["seed=-1"], "--seed: expected 0 or more, got -1"),
        (["temperature=nan"], "--temperature: expected a number above 0"),
        (["temperature=0.5,0"], "--temperature: expected a number above 0, got 0.0"),
        (["features=zh,h"], "--features: expected one of z, z_hidden, zh, zc, zch, got 'h'"),
        (["z-size=16,32"], "--vary z-size=16,32: expected SETTING=VALUE,VALUE of one of seed, env, temperature"),
        (["rollouts=4/1,5:2,3:4"], "--rollouts: expected a count, then generations that ascend"),
        (["seed=1", "seed=2"], "--vary seed=2: seed is given twice"),
    ],
)
def test_what_cannot_be_varied_is_said(texts, message):
    with pytest.raises(UserError, match=message):
        variations.parse(texts)


@pytest.mark.parametrize(
    ("given", "varied", "message"),
    [
        ({"env": "dream"}, {"seed": 1}, "--env dream: this M of CarRacing predicts no reward"),
        ({}, {"temperature": 0.5}, "--vary temperature: the real environment has none; say --env dream"),
    ],
)
def test_an_agent_that_cannot_be_evolved_is_refused_before_the_first_is(given, varied, message, tmp_path):
    make_run(tmp_path / "car", "carracing")
    with pytest.raises(UserError, match=message):
        variations.evolve_and_test(mpi.world(), tmp_path / "car", given, [{"seed": 1}, varied], 1)
    assert not (tmp_path / "car/agents").exists()


def test_the_table_has_the_mean_over_seeds():
    row = results.identity(tasks.preset("carracing", "smoke")) | {"mean": 800.0, "std": 50.0}
    lines = [({"features": "z", "seed": seed}, row | {"mean": 800.0 + 10 * seed}) for seed in (1, 2, 3)]
    lines.append(({"features": "zh", "seed": 1}, row))
    *agents, over_seeds = variations.table(lines).splitlines()
    assert len(agents) == 5 and agents[1].split()[0] == "features-z,seed-1" and agents[1].endswith("810.0 ± 50.0")
    assert over_seeds.startswith("features-z 3 seeds") and over_seeds.endswith("820.0, standard error 5.8")


def test_another_agent_s_test_is_not_its_own(tmp_path):
    config = make_run(tmp_path, "carracing")
    best = evolve(tmp_path, config).best
    row = results.identity(config) | integrity.digests(tmp_path, "vae", "rnn")
    row |= {"mean": 9.0, "std": 0.0, "returns": [9.0], "seeds": [1], "episodes": 1}
    row["agent"] = integrity.json_digest({"parameters": best["parameters"]})
    results.add(tmp_path / "results.json", row)
    assert variations.tested(tmp_path, config, 1) == row
    assert variations.tested(tmp_path, config, 2) is None
    assert variations.tested(tmp_path, dataclasses.replace(config, view="v3"), 1) is None
    results.add(tmp_path / "results.json", row | {"agent": "another"})
    assert variations.tested(tmp_path, config, 1) is None


def test_an_agent_of_other_settings_is_not_taken_for_one_of_these(tmp_path):
    config = make_run(tmp_path, "carracing")
    variations.open_agent(tmp_path, {"sigma": 0.2}, {"seed": 1})
    with pytest.raises(UserError, match=r"seed-1 was made with --sigma 0\.2, not 0\.1; say --sigma 0\.2, or delete"):
        variations.configured(tmp_path, {}, {"seed": 1})
    longer = variations.open_agent(tmp_path, {"sigma": 0.2, "generations": config.generations + 2}, {"seed": 1})
    assert longer.generations == config.generations + 2
    assert variations.place(tmp_path, {"sigma": 0.2}, {"seed": 2}) == tmp_path / "agents/seed-2"
    assert variations.place(tmp_path, {}, {"seed": config.seed}) == tmp_path  # its own agent


def test_another_c_does_not_go_on_from_the_round_before(tmp_path):
    config = dataclasses.replace(make_run(tmp_path, "carracing"), round=2, linked=1)
    run_dir.save(config, tmp_path)
    assert variations.configured(tmp_path, {}, {"seed": 1}).restart == "yes"  # a packed run has no round before
    run_dir.save(dataclasses.replace(config, round=1, linked=0), tmp_path / "before")
    assert variations.configured(tmp_path, {}, {"seed": 1}).restart == "no"
    with pytest.raises(UserError, match="C of the round before sees zh; to evolve others say --restart yes"):
        variations.configured(tmp_path, {}, {"features": "z"})
    assert variations.configured(tmp_path, {"restart": "yes"}, {"features": "z"}).features == "z"


def test_what_is_there_is_not_evolved_again(tmp_path, monkeypatch):
    """As below a copy of a packed run, whose agents have no checkpoint."""
    make_run(tmp_path, "carracing")
    below, config = tmp_path / "agents/seed-1", variations.open_agent(tmp_path, {"generations": 3}, {"seed": 1})
    assert not variations.evolved(below, config)
    best = evolve(below, config).best
    (below / "controller/checkpoint.npz").unlink()
    row = results.identity(config) | integrity.digests(below, "vae", "rnn")
    row |= {"mean": 9.0, "std": 0.0, "returns": [9.0], "seeds": [1], "episodes": 1}
    results.add(below / "results.json", row | {"agent": integrity.json_digest({"parameters": best["parameters"]})})
    for name in ("evolve", "evaluation.evaluate"):
        monkeypatch.setattr(f"world_models.stages.variations.{name}", None)
    variations.evolve_and_test(mpi.world(), tmp_path, {"generations": 3}, [{"seed": 1}], 1)
    assert not variations.evolved(below, dataclasses.replace(config, generations=4))
