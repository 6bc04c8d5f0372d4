"""What is readable but wrong is refused: files of another run, of other settings, or of another V or M."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_run import add_agent, edit_json, episode_of, flip, make_run, new_run, size_of, small, trust

from controller.evolution import Evolution
from rnn.data import LatentDataset
from tools.convert import import_run
from world_models import results, tasks, training
from world_models.config import UserError
from world_models.runs import episodes, files, weights
from world_models.runs.agent import read_best
from world_models.runs.begin import begin
from world_models.runs.manifest import episode_digest
from world_models.runs.run import Run
from world_models.stages import evaluation, recording
from world_models.stages.explorers import Explorers
from world_models.stages.held_out import held_out_episodes
from world_models.world_model import load_vae, make_vae


@pytest.mark.parametrize("seed", [0, 2**63, 2**128])
def test_the_reader_accepts_the_seed_of_every_run_that_was_made(seed, tmp_path):
    run = new_run(tmp_path, seed=seed)
    path = episode_of(run, 0)
    assert Run(tmp_path).config.seed == seed
    episodes.check(path, run.config, 0)
    row = results.identity(run.config) | {"episodes": 1, "mean": 1.0, "std": 0.0, "returns": [1.0], "seeds": [1]}
    run.write_text("results.json", json.dumps({"results": [row]}))
    assert results.read(Run(tmp_path))[0]["seed"] == seed


@pytest.mark.parametrize("name", ["vae.weights.h5", "rnn.weights.h5", "initial_z.npz", "controller/best.json"])
def test_a_file_with_another_byte_is_refused(name, copied):
    flip(copied / name, (copied / name).stat().st_size // 2)
    with pytest.raises(UserError, match=rf"{name} was modified after it was written .*delete it, and make it with: "):
        Run(copied).need(name)


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"seed": 7, "sigma": 0.2, "features": "z"}, set()),
        ({"rnn_rate": 0.5}, {"rnn.weights.h5"}),
        ({"untrained": "rnn"}, {"rnn.weights.h5"}),
        ({"initial_frames": 7}, {"rnn.weights.h5", "initial_z.npz"}),
        ({"vae_epochs": 3}, {"vae.weights.h5", "rnn.weights.h5", "initial_z.npz"}),
        ({"untrained": "vae"}, {"vae.weights.h5", "rnn.weights.h5", "initial_z.npz"}),
        ({"new_share": 0.7}, {"record", "vae.weights.h5", "rnn.weights.h5", "initial_z.npz"}),
        ({"max_frames": 77}, {"record", "vae.weights.h5", "rnn.weights.h5", "initial_z.npz"}),
    ],
)
def test_a_derived_run_takes_what_does_not_depend_on_a_changed_setting(changes, left, copied):
    base = Run(copied)
    base.record_episodes({path.name: episode_digest(path) for path in [episode_of(base, index) for index in range(2)]})
    run = begin(copied.parent / "derived", changes, copied)
    names = ("record", "vae.weights.h5", "rnn.weights.h5", "initial_z.npz")
    assert {name for name in names if not run.is_current(name)} == left


def test_latents_of_another_v_are_refused(copied):
    run = Run(copied)
    mu, lengths = np.zeros((20, 4), np.float16), np.array([10, 10])
    with run.write("series.npz") as tmp, open(tmp, "wb") as file:
        rest = {"action": np.zeros((20, 3), np.float32), "reward": np.zeros(20, np.float32)}
        np.savez(file, mu=mu, logvar=mu, ends=lengths, lengths=lengths, **rest)
    assert LatentDataset.read(run).starts.tolist() == [0, 10]
    weights.save(make_vae(run.config), run, "vae.weights.h5")
    with pytest.raises(UserError, match=r"series\.npz was made from another V than"):
        LatentDataset.read(run)


def test_another_runs_files_are_refused(small_run, tmp_path):
    """Copied by hand next to those of a run with another seed."""
    other = make_run(tmp_path / "other", seed=1)
    for name in ("controller/checkpoint.npz", "controller/best.json"):
        add_agent(other)
        shutil.copyfile(small_run / name, other / name)
        other.manifest.rows.pop(name, None)
        other.manifest.save()
        assert not other.is_current(name)
        with pytest.raises(UserError, match=rf"{name} has no row in .*its origin is unknown"):
            other.need(name)
    add_agent(other)
    with pytest.raises(UserError, match=r"best\.json has no checkpoint\.npz to resume from"):
        Evolution(Run(other.path), size_of(other.config))


@pytest.mark.parametrize("changes", [{"seed": 1}, {"view": "v3"}, {"policy": "smooth"}, {"max_frames": 9}])
def test_episodes_of_other_settings_are_refused(changes, tmp_path):
    run = new_run(tmp_path / "run")
    episodes.check(episode_of(run, 0), tasks.replace(run.config, episodes=50), 0)
    other = episode_of(new_run(tmp_path / "other", **changes), 0)
    shutil.copyfile(other, run / "record/000000.npz")
    with pytest.raises(UserError, match=r"000000\.npz is not an episode of this run of carracing.*(settings|seed) "):
        episodes.missing(run)


def test_an_episode_of_another_number_or_task_is_refused(tmp_path):
    run, doom = new_run(tmp_path / "run"), new_run(tmp_path / "doom", "doom")
    shutil.copyfile(episode_of(run, 0), run / "record/000001.npz")
    with pytest.raises(UserError, match="index 0, expected 1"):
        episodes.missing(run)
    shutil.copyfile(episode_of(doom, 1), run / "record/000001.npz")
    with pytest.raises(UserError, match="of carracing: task doom, expected carracing"):
        episodes.missing(run)


def test_only_the_agents_own_episodes_are_held_out(copied):
    run = Run(copied)
    agent = Explorers(run, run.config).kept().source["agent"]
    own = {"held_out": True, "agent": agent, "vae": run.digest("vae.weights.h5"), "rnn": run.digest("rnn.weights.h5")}
    (copied / "held_out").mkdir()
    for wrong in ({}, {"vae": "another"}, {"agent": "another"}, {"held_out": False}):
        path = episode_of(run, 0, **own | wrong).rename(copied / "held_out/000000.npz")
        if not wrong:
            assert held_out_episodes(run) == [path]
            continue
        with pytest.raises(UserError, match=rf"000000\.npz is not an episode of this run .*{next(iter(wrong))} "):
            held_out_episodes(run)


def test_a_derived_run_records_nothing_in_its_base(tmp_path):
    base = make_run(tmp_path / "base")
    base.record_episodes({path.name: episode_digest(path) for path in [episode_of(base, index) for index in range(2)]})
    run = begin(tmp_path / "run", {"seed": 1}, base.path)
    assert len(episodes.complete(run)) == 2 and all(path.is_symlink() for path in (run / "record").iterdir())
    (base / "record/000001.npz").unlink()
    with pytest.raises(UserError, match=r"000001\.npz, which leads to .*base/record/000001\.npz, is missing; restore"):
        recording.episodes.missing(run)
    assert not (base / "record/000001.npz").exists()


@pytest.mark.parametrize("way", ["base", "after"])
def test_what_an_interrupted_beginning_has_linked_is_replaced(way, small_run, tmp_path, monkeypatch):
    run, bases = tmp_path / "run", [shutil.copytree(small_run, tmp_path / name) for name in "ab"]
    for base in map(Run, bases):
        made = [episode_of(base, index) for index in range(2)]
        base.record_episodes({path.name: episode_digest(path) for path in made})
    with monkeypatch.context() as interrupted:
        interrupted.setattr("world_models.runs.config_file.text", lambda *_: 1 / 0)
        for first in ("base", "after"):
            with pytest.raises(ZeroDivisionError):
                begin(run, {"episodes": 2}, **{first: bases[0]})
    begin(run, {"episodes": 2}, **{way: bases[1]})
    assert (run / "record/000000.npz").resolve() == (bases[1] / "record/000000.npz").resolve()
    assert (run / "before").exists() == (way == "after")
    assert not (bases[0] / "record/000000.npz").is_symlink() and not (bases[0] / "before").exists()


def test_a_base_is_recorded_and_no_other_is_accepted(small_run, tmp_path):
    run = tmp_path / "run"
    other = shutil.copytree(small_run, tmp_path / "other")
    assert begin(run, {"features": "z"}, small_run).config == begin(run, {}, small_run).config
    for wrong, flag in (({"base": other}, f"--from {other}"), ({"after": small_run}, f"--after {small_run}")):
        with pytest.raises(UserError, match=f"{flag}: .*run exists and began --from .*run; leave the flag out"):
            begin(run, {}, **wrong)
    with pytest.raises(UserError, match="other exists and began from settings alone"):
        begin(other, {}, small_run)


def test_a_training_goes_on_from_its_own_checkpoint(tmp_path):
    run, variable = new_run(tmp_path / "run"), tf.Variable(np.zeros(3, np.float32))
    checkpoint = training.Checkpoint(run, "vae.checkpoint.npz", [variable])
    checkpoint.save(7, {"loss": 0.5})
    variable.assign(np.ones(3, np.float32))
    with pytest.raises(UserError, match=r"vae\.checkpoint\.npz does not fit this model .step 7 of 5"):
        checkpoint.restore(5)
    np.testing.assert_array_equal(variable, np.ones(3))
    assert checkpoint.restore() == (7, {"loss": 0.5}) and not variable.numpy().any()


def test_an_imported_agent_is_read_without_its_v(tmp_path):
    """The release's files do not say which belong together."""
    config = small(features="z")
    (tmp_path / "best.json").write_text(json.dumps([[0.5] * size_of(config), 12.5]))
    given = {name: getattr(config, name) for name in ("task", "features", "z_size", "rnn_units", "mixtures")}
    import_run(tmp_path / "run", {"controller": tmp_path / "best.json"}, given)
    run = Run(tmp_path / "run")
    weights.save(make_vae(run.config), run, "vae.weights.h5")
    best = read_best(run, size_of(config))
    assert best["parameters"] == [0.5] * size_of(config) and best["generation"] is None


# Results


def add_row(run: Run, **changes) -> dict:
    """A row of results.json of a test that was not played, written with its record."""
    row = results.identity(run.config) | {"episodes": 3, "mean": 854.25, "std": 45.6, "ranks": 2, "generation": 3}
    row |= {"returns": [800.5, 850.25, 912.0], "seeds": [1, 2, 3]} | changes
    run.write_text("results.json", json.dumps({"results": [row]}))
    return row


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": None}, "its std is None"),
        ({"mean": "906"}, "its mean is '906'"),
        ({"returns": [1.0, "x", 2.0]}, "its returns is"),
        ({"returns": None}, "its returns is None"),
        ({"seeds": [1, 2.5, 3]}, "its seeds is"),
        ({"seeds": [1]}, "different numbers of episodes, returns and seeds"),
        ({"temperature": "1"}, "its temperature is '1'"),
        ({"play_in": "dream"}, "no temperature"),
        ({"play_in": "game"}, "its play_in is 'game'"),
        ({"view": "v9"}, "view 'v9'"),
        ({"episodes": "3"}, "its episodes is '3'"),
        ({"task": "doom", "view": None}, "of task doom"),
        ({"task": "gymnasium:row:row-v0"}, "of task gymnasium:row:row-v0"),
    ],
)
def test_rows_of_results_are_read_strictly(changes, message, tmp_path):
    run = new_run(tmp_path)
    add_row(run, **changes)
    with pytest.raises(UserError, match=rf"results\.json is not a results file .*{message}"):
        results.read(run)


def test_results_that_were_modified_or_are_of_another_v_are_refused_before_the_test(copied):
    run = Run(copied)
    row = add_row(run, vae=run.digest("vae.weights.h5"), rnn=run.digest("rnn.weights.h5"))
    results.require_own(run)
    add_row(run, rnn="another")
    with pytest.raises(UserError, match=r"results\.json has tests of another M than .*rnn\.weights\.h5"):
        results.require_own(run)
    edit_json(copied / "results.json", results=[row | {"mean": 996.0}])
    with pytest.raises(UserError, match=r"results\.json was modified"):
        results.require_own(run)


def test_a_run_without_such_a_test_has_no_counterpart(copied):
    run = Run(copied)
    row = add_row(run)
    assert evaluation.counterpart(row, copied)["returns"] == row["returns"]
    add_row(run, variant="bars")
    with pytest.raises(UserError, match=r"its results\.json has no test of"):
        evaluation.counterpart(row, copied)


def test_a_history_without_a_sigma_is_named(copied):
    (copied / "controller/checkpoint.npz").unlink()
    (copied / "controller/history.jsonl").write_text('{"generation": 1, "seconds": 1, "mean": 1}\n')
    trust(copied, "controller/history.jsonl")
    run = Run(copied)
    with pytest.raises(UserError, match=r"history\.jsonl, line 1, is broken: its sigma is missing"):
        Explorers(run, run.config)


def test_v_of_another_size_is_named(copied):
    run = Run(copied)
    run.save_config(tasks.replace(run.config, z_size=8))
    with pytest.raises(UserError, match=r"vae\.weights\.h5 does not hold V with z of 8 numbers .*train_vae\.py"):
        load_vae(run)
    assert files.read_json(copied / "config.json")["z_size"] == 8
