"""What a run's files say of the settings they were made with: another run's of the same seed are refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from small_run import edit_json, episode_of, evolve, make_run, read_best, refused_search, small

from rnn.train import made_from as m_made_from
from vae.data import check_episodes, episode_path, read_source
from vae.train import made_from as v_made_from
from world_models import results, tasks, training
from world_models.config import UserError
from world_models.runs import config_file, integrity, run_dir
from world_models.stages import evaluation
from world_models.world_model import load_rnn, load_vae, make_rnn, make_vae


def trained(run, **changes):
    """A run whose V and M say what they were made with."""
    config = make_run(run, **changes)
    training.save_weights(make_vae(config), run / "vae.weights.h5", v_made_from(config))
    record = integrity.digests(run, "vae") | m_made_from(config)
    training.save_weights(make_rnn(config), run / "rnn.weights.h5", record)
    return config


def test_a_digest_outlasts_new_settings_and_ways_to_write_a_number():
    """Files that are there hold these digests: they may not change."""
    config = tasks.preset("carracing", "paper")
    assert config_file.settings_digest(config, "rnn") == "0c00db5f502dc6ea"
    assert config_file.settings_digest(config, "episode") == "50f70c5ac4d181d7"
    assert config_file.settings_digest(config, "search") == "0882e4abb9c97b9f"
    whole = dataclasses.replace(config, kl_tolerance=1, temperature=1)
    exact = dataclasses.replace(config, kl_tolerance=1.0, temperature=1.0)
    for what in config_file.DEPENDS:
        assert config_file.settings_digest(whole, what) == config_file.settings_digest(exact, what)


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"seed": 7}, set()),
        ({"sigma": 0.2}, {"search"}),
        ({"rnn_dropout": 0.05}, {"rnn"}),
        ({"dream_dropout": 0.1}, {"search"}),
        ({"generations": 900}, set()),
        ({"rnn_rate": 0.5}, {"rnn"}),
        ({"untrained": "rnn"}, {"rnn"}),
        ({"untrained": "vae"}, {"vae", "rnn"}),
        ({"vae_epochs": 3}, {"vae", "rnn"}),
        ({"episodes": 9}, {"vae", "rnn"}),
        ({"policy": "smooth"}, {"episode", "vae", "rnn"}),
        ({"max_frames": 77}, {"episode", "vae", "rnn"}),
    ],
)
def test_what_depends_on_a_setting(changes, changed):
    config = small()
    other = dataclasses.replace(config, **changes)
    digest = config_file.settings_digest
    assert {what for what in config_file.DEPENDS if digest(config, what) != digest(other, what)} == changed


def test_v_and_m_of_other_settings_are_refused(tmp_path):
    run = tmp_path / "run"
    config = trained(run)
    load_vae(run, config), load_rnn(run, config)
    for changes, refused in (({"rnn_rate": 0.5}, "rnn"), ({"vae_epochs": 3}, "vae"), ({"policy": "smooth"}, "vae")):
        other = dataclasses.replace(config, **changes)
        run_dir.save(other, run)
        load, name = {"vae": (load_vae, "vae"), "rnn": (load_rnn, "rnn")}[refused]
        with pytest.raises(UserError, match=rf"{name}\.weights\.h5 is another run's: settings "):
            load(run, other)
        if refused == "rnn":
            load_vae(run, other)
    run_dir.save(config, run)
    load_rnn(run, dataclasses.replace(config, view="v3"))  # as a test may have it


def test_a_derived_run_takes_v_and_m_whatever_its_search(tmp_path):
    base, run = tmp_path / "base", tmp_path / "run"
    trained(base)
    config = run_dir.open_run(run, {"seed": 1, "features": "z", "sigma": 0.2}, base)
    load_vae(run, config), load_rnn(run, config)
    config = run_dir.open_run(tmp_path / "new", {"rnn_rate": 0.5}, base)
    load_vae(tmp_path / "new", config)
    assert not (tmp_path / "new" / "rnn.weights.h5").exists()
    shutil.copyfile(base / "rnn.weights.h5", tmp_path / "new" / "rnn.weights.h5")
    with pytest.raises(UserError, match=r"rnn\.weights\.h5 is another run's: settings "):
        load_rnn(tmp_path / "new", config)


@pytest.mark.parametrize("changes", [{"policy": "smooth"}, {"max_frames": 9}, {"min_frames": 2}])
def test_episodes_of_other_settings_are_refused_but_for_an_earlier_rounds(changes, tmp_path):
    config = small()
    path = episode_path(tmp_path, 0)
    episode_of(tmp_path, 0, config)
    check_episodes([path], dataclasses.replace(config, episodes=50))
    episode_of(tmp_path, 0, dataclasses.replace(config, **changes))
    with pytest.raises(UserError, match=r"000000\.npz is not an episode of this run .*settings "):
        check_episodes([path], config)
    aside = path.rename(tmp_path / "000000.npz")
    path.symlink_to(aside)
    check_episodes([path], config)
    source = {name: value for name, value in read_source(path).items() if name != "settings"}  # of an older version
    path.unlink()
    with np.load(aside) as file:
        np.savez(path, **{name: file[name] for name in file.files if name != "source"}, source=json.dumps(source))
    check_episodes([path], config)


def test_an_agent_and_a_search_of_other_settings_are_refused(small_run, tmp_path):
    sibling = tmp_path / "sibling"
    config = run_dir.open_run(sibling, {"sigma": 0.2}, small_run[0])
    evolve(sibling, config)
    read_best(sibling, dataclasses.replace(config, generations=900))
    for name in ("best.json", "checkpoint.npz"):
        shutil.copyfile(small_run[0] / "controller" / name, sibling / "controller" / name)
    with pytest.raises(UserError, match=r"best\.json is another run's: settings "):
        read_best(sibling, config)
    refused_search(sibling, config, r"checkpoint\.npz is another run's: settings ")


@pytest.mark.parametrize("name", ["preset", "features", "untrained", "pixels"])
def test_rows_of_another_experiment_are_refused_before_the_test(name, copied):
    run, config = copied
    other = {"preset": "laptop", "features": "z", "untrained": "vae", "pixels": "release"}[name]
    row = results.identity(config) | {"episodes": 1}
    results.add(run / "results.json", row)
    evaluation.require_results_file(run, config)  # of a version that kept no digests
    edit_json(run / "results.json", results=[row | {name: other}])
    with pytest.raises(UserError, match=rf"results\.json is another run's: {name} {other}, config\.json says "):
        evaluation.require_results_file(run, config)


@pytest.mark.parametrize(("name", "letter"), [("vae", "V"), ("rnn", "M")])
def test_rows_of_another_v_or_m_are_refused_before_the_test(name, letter, copied):
    run, config = copied
    row = results.identity(config) | {"episodes": 1, **integrity.digests(run, "vae", "rnn")}
    results.add(run / "results.json", row)
    evaluation.require_results_file(run, dataclasses.replace(config, env="real"))
    edit_json(run / "results.json", results=[row | {name: "another"}])
    with pytest.raises(UserError, match=rf"results\.json has tests of another {letter} than .*{name}\.weights\.h5"):
        evaluation.require_results_file(run, config)
