"""What is wrong but readable is refused: damaged files, another run's, another task's."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_run import edit_json, episode_of, evolve, flip, make_run, read_best, refused_search, small

from controller.evolution import Evolution
from controller.policy import Controller
from doom_rnn.dream import Starts
from rnn.data import LatentDataset
from tools.release.transfer import import_run
from vae.data import check_episodes, episode_path
from world_models import results, training
from world_models.config import UserError
from world_models.runs import config_file, integrity, run_dir, storage
from world_models.stages import evaluation, recording
from world_models.stages.held_out import held_out_episodes
from world_models.world_model import load_rnn, load_vae, make_rnn, make_vae


@pytest.mark.parametrize("name", ["vae.weights.h5", "rnn.weights.h5"])
def test_weights_with_a_flipped_byte_are_refused(name, copied):
    run, config = copied
    load = load_vae if name.startswith("vae") else load_rnn
    model = load(run, config)
    content = (run / name).read_bytes()
    for variable in [variable for variable in model.trainable_variables if np.any(variable)][:3]:
        flip(run / name, content.index(np.asarray(variable).tobytes()) + 1)
        with pytest.raises(UserError, match="is damaged: its digest is not that of its numbers"):
            load(run, config)
        (run / name).write_bytes(content)
    load(run, config)


@pytest.mark.parametrize("name", ["config.json", "controller/best.json"])
def test_json_with_another_digit_is_refused(name, copied):
    run, _ = copied
    text = (run / name).read_text()
    place = text.index('"seed": 0') if name == "config.json" else text.index('"score": ')
    digit = next(k for k in range(place, len(text)) if text[k].isdigit())
    (run / name).write_text(text[:digit] + "7" + text[digit + 1 :])
    with pytest.raises(UserError, match="is not as it was written: its digest differs"):
        read_best(run, run_dir.load(run))


def test_latents_with_a_flipped_byte_are_refused(copied):
    run, _ = copied
    latents = make_latents()
    latents.write(run / "series.npz", integrity.digests(run, "vae"))
    LatentDataset.read(run / "series.npz", 4, 2)
    content = (run / "series.npz").read_bytes()
    flip(run / "series.npz", content.index(latents.mu.tobytes()) + 20)
    with pytest.raises(UserError, match=r"series\.npz does not hold latents \(Bad CRC-32 for file 'mu\.npy'\)"):
        LatentDataset.read(run / "series.npz", 4, 2)


def make_latents(mu: float = 1.0) -> LatentDataset:
    mus = np.full((20, 4), mu, np.float16)
    lengths = np.array([10, 10])
    return LatentDataset(mus, mus, np.zeros((20, 3), np.float32), np.zeros(20, np.float32), lengths, lengths)


def test_latents_of_another_v_are_refused(copied, tmp_path):
    """As when V is imported beside an older series.npz."""
    run, config = copied
    make_latents().write(run / "series.npz", integrity.digests(run, "vae"))
    training.save_weights(make_vae(config), run / "vae.weights.h5")
    with pytest.raises(UserError, match=r"series\.npz was made from another V than"):
        LatentDataset.read(run / "series.npz", 4, 2)
    make_latents().write(run / "series.npz")  # as an older version did
    with pytest.raises(UserError, match=r"series\.npz does not say from which V"):
        LatentDataset.read(run / "series.npz", 4, 2)
    for load in (load_rnn, Starts):
        with pytest.raises(UserError, match="was made from another V"):
            load(run, config)


def test_an_agent_of_another_m_is_refused(copied):
    run, config = copied
    read_best(run, config)
    training.save_weights(make_rnn(config), run / "rnn.weights.h5", integrity.digests(run, "vae"))
    with pytest.raises(UserError, match=r"best\.json was made from another M than"):
        read_best(run, config)
    with pytest.raises(UserError, match=r"checkpoint\.npz was made from another M than"):
        Evolution(run, config, Controller.of(config).num_params)


def test_another_runs_checkpoint_is_refused_before_anything_is_written(copied, tmp_path):
    run, config = copied
    path = run / "controller" / "checkpoint.npz"
    own = path.read_bytes()
    other = tmp_path / "other"
    doom = make_run(other, "doom")
    evolve(other, doom)
    shutil.copyfile(other / "controller" / "checkpoint.npz", path)
    refused_search(run, config, r"checkpoint\.npz is not a checkpoint of this search: .* of shape")
    path.write_bytes(own)
    another = r"checkpoint\.npz is another run's: seed 0, config\.json says 1"
    refused_search(run, dataclasses.replace(config, seed=1), another)
    refused_search(run, dataclasses.replace(config, population=6), "a population of 4, expected 6")
    refused_search(run, dataclasses.replace(config, view="v3", features="z"), "of shape")
    assert len(Evolution(run, config, Controller.of(config).num_params).history) == 3


def test_an_agent_of_a_sibling_run_is_refused(small_run, tmp_path):
    """Evolved from the same V and M, but with another seed."""
    sibling = tmp_path / "sibling"
    config = run_dir.open_run(sibling, {"seed": 1}, small_run[0])
    evolve(sibling, config)
    read_best(sibling, config)
    shutil.copyfile(small_run[0] / "controller" / "best.json", sibling / "controller" / "best.json")
    with pytest.raises(UserError, match=r"best\.json is another run's: seed 0, config.json says 1"):
        read_best(sibling, config)


def test_a_run_from_before_origins_were_recorded_says_that_a_base_changes_nothing(tmp_path, capsys):
    config = make_run(tmp_path / "run")
    storage.write_text(tmp_path / "run" / "config.json", config_file.text(config, None))
    run_dir.open_run(tmp_path / "run", {}, base=tmp_path / "base")
    assert "base changes nothing: " in capsys.readouterr().err
    run_dir.open_run(tmp_path / "run", {})
    assert capsys.readouterr().err == ""


def test_v_of_another_seed_is_refused_unless_the_run_began_from_it(tmp_path):
    config = make_run(tmp_path / "run")
    record = {"task": config.task, "pixels": config.pixels, "seed": 7, "round": 1}
    training.save_weights(make_vae(config), tmp_path / "run" / "vae.weights.h5", record)
    write = lambda origin: storage.write_text(tmp_path / "run" / "config.json", config_file.text(config, origin))  # noqa: E731
    write({})
    with pytest.raises(UserError, match=r"vae\.weights\.h5 is another run's: seed 7, config.json says 0"):
        load_vae(tmp_path / "run", config)
    for origin in ({"from": "../base"}, None):
        write(origin)
        load_vae(tmp_path / "run", config)


def test_results_with_another_digit_are_refused(tmp_path):
    path = tmp_path / "results.json"
    row = results.identity(small()) | {"episodes": 1, "mean": 906.0, "std": 0.0}
    results.add(path, row)
    assert results.read(path) == [row]
    path.write_text(path.read_text().replace("906.0", "996.0"))
    with pytest.raises(UserError, match=r"results\.json is not as it was written"):
        results.read(path)


def test_results_of_another_run_are_refused_before_the_test(tmp_path, car_run):
    config = run_dir.load(car_run)
    path = tmp_path / "results.json"
    row = results.identity(config) | {"episodes": 1}
    results.add(path, row)
    evaluation.require_results_file(tmp_path, config)
    for name, other in (("seed", config.seed + 1), ("task", "doom")):
        results.add(path, row | {name: other})
        said = rf"results\.json is another run's: {name} {other}, config\.json says "
        with pytest.raises(UserError, match=said):
            evaluation.require_results_file(tmp_path, config)
        path.unlink()


def test_only_the_agents_own_episodes_are_held_out(copied):
    run, config = copied
    models = integrity.digests(run, "vae", "rnn")
    episode_of(run, 0, config, held_out=True, **models)
    (run / "record").rename(run / "held_out")
    paths = held_out_episodes(run, config)
    assert len(paths) == 1
    episode_of(run, 0, config, held_out=True, vae="another")
    shutil.copyfile(episode_path(run, 0), paths[0])
    with pytest.raises(UserError, match=r"000000\.npz is not an episode of this run .*vae another"):
        held_out_episodes(run, config)
    episode_of(run, 0, small("doom"), held_out=True, **models)
    shutil.copyfile(episode_path(run, 0), paths[0])
    with pytest.raises(UserError, match="task doom, expected carracing"):
        held_out_episodes(run, config)
    episode_of(run, 0, config, held_out=True, **models)
    with pytest.raises(UserError, match="held_out True, expected False"):
        check_episodes([episode_path(run, 0)], config)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    variable = tf.Variable(np.zeros(3, np.float32))
    mine = training.Checkpoint(tmp_path / "vae.checkpoint.npz", [variable], tmp_path, task="carracing", seed=0)
    mine.save(7, {"loss": 0.5})
    variable.assign(np.ones(3, np.float32))
    other = training.Checkpoint(mine.path, [variable], tmp_path, task="carracing", seed=1)
    with pytest.raises(UserError, match=r"vae\.checkpoint\.npz is another run's: seed 0, config.json says 1"):
        other.restore()
    np.testing.assert_array_equal(variable, np.ones(3))
    assert mine.restore() == (7, {"loss": 0.5}) and not variable.numpy().any()


def test_weights_of_another_task_are_refused(copied):
    run, _ = copied
    edit_json(run / "config.json", pixels="release")
    with pytest.raises(UserError, match=r"vae\.weights\.h5 is another run's: pixels paper, config.json says release"):
        load_vae(run, run_dir.load(run))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (small("doom"), r"000001\.npz is not an episode of this run of carracing: actions of shape \(1,\)"),
        (small(view="v3"), "view v3, expected v0"),
        (small(seed=1), "seed 1, expected 0"),
    ],
)
def test_episodes_of_another_run_are_refused(other, message, tmp_path):
    config = small()
    paths = [episode_path(tmp_path, index) for index in range(2)]
    for index in range(2):
        episode_of(tmp_path, index, config)
    check_episodes(paths, config)
    episode_of(tmp_path, 1, other)
    with pytest.raises(UserError, match=message):
        check_episodes(paths, config)
    shutil.copyfile(paths[0], paths[1])
    with pytest.raises(UserError, match="index 0, expected 1"):
        check_episodes(paths, config)


def test_a_base_is_recorded_and_no_other_is_taken(small_run, tmp_path):
    base, config = small_run
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(base, other)
    given = {"features": "z"}
    run_dir.open_run(run, given, base)
    assert set(json.loads((run / "config.json").read_text())["origin"]) == {"from"}
    before = (run / "config.json").read_bytes()
    assert run_dir.open_run(run, given, base) == run_dir.open_run(run, {})  # again, and a later stage
    with pytest.raises(UserError, match=f"--from {other}: {run} is there already and began with --from {base}"):
        run_dir.open_run(run, given, other)
    with pytest.raises(UserError, match=f"--after {base}: .* began with --from {base}"):
        run_dir.open_run(run, {}, None, base)
    with pytest.raises(UserError, match=f"--from {base}: {tmp_path / 'new'} is there already and began without it"):
        run_dir.open_run(tmp_path / "new", {"task": "carracing", "preset": "smoke"})
        run_dir.open_run(tmp_path / "new", {}, base)
    assert (run / "config.json").read_bytes() == before
    run_dir.save(dataclasses.replace(config, features="z", generations=9), run)
    assert json.loads((run / "config.json").read_text())["origin"] == json.loads(before)["origin"]


@pytest.mark.parametrize("way", ["from", "after"])
def test_what_an_interrupted_beginning_has_linked_is_replaced(way, small_run, tmp_path, monkeypatch):
    run, bases = tmp_path / "run", [shutil.copytree(small_run[0], tmp_path / name) for name in "ab"]
    for base in bases:
        for index in range(2):
            episode_of(base, index, small_run[1])
    (bases[0] / "curious").mkdir()
    shutil.copyfile(bases[0] / "controller/best.json", bases[0] / "curious/best.json")
    with monkeypatch.context() as interrupted:
        interrupted.setattr(run_dir.config_file, "text", lambda *_: 1 / 0)
        for first in ({"base": bases[0]}, {"after": bases[0]}):
            with pytest.raises(ZeroDivisionError):
                run_dir.open_run(run, {"episodes": 2}, **first)
    run_dir.open_run(run, {"episodes": 2}, **{"base" if way == "from" else "after": bases[1]})
    assert episode_path(run, 0).resolve() == episode_path(bases[1], 0).resolve()
    assert (run / "before").exists() == (way == "after") and not (run / "before" / "curious").exists()
    assert not episode_path(bases[0], 0).is_symlink() and not (bases[0] / "before").exists()


def test_a_derived_run_records_nothing_in_its_base(tmp_path):
    base, run = tmp_path / "base", tmp_path / "run"
    config = make_run(base)
    for index in range(config.episodes):
        episode_of(base, index, config)
    run_dir.open_run(run, {"seed": 1}, base)
    assert (run / "record").is_symlink() and recording.missing_episodes(run, run_dir.load(run)) == []
    check_episodes([episode_path(run, k) for k in range(2)], run_dir.load(run))  # of another seed, linked on purpose
    episode_path(base, 1).unlink()
    with pytest.raises(UserError, match=f"of another run, which lacks 1 episodes: .* extract.py --run {base}"):
        recording.missing_episodes(run, run_dir.load(run))


def test_an_imported_agent_is_read_without_its_v(tmp_path):
    """The release's files do not say which belong together."""
    config = small(features="z")
    size = Controller.of(config).num_params
    (tmp_path / "best.json").write_text(json.dumps([[0.5] * size, 12.5]))
    given = {name: getattr(config, name) for name in ("task", "features", "z_size", "rnn_units", "mixtures")}
    import_run(tmp_path / "run", {"controller": tmp_path / "best.json"}, given)
    training.save_weights(make_vae(config), tmp_path / "run" / "vae.weights.h5", {})
    assert read_best(tmp_path / "run", config)["parameters"] == [0.5] * size
