"""What is wrong but readable is refused: numbers that are not finite, damaged files, another run's, another task's."""

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys

import cma
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, run_script

import config as configs
import tasks
from common import command_line, config_file, integrity, results, run_dir, training
from config import UserError
from controller import agent_file, recording
from controller.episode import Episode
from controller.es import CMAES
from controller.evolution import Evolution
from controller.held_out import held_out_episodes
from controller.policy import Controller
from controller.rollout import DreamLanes, RealLanes
from doom_rnn.dream import DreamEnv, Starts
from env import make_env
from rnn.data import LatentDataset
from tasks.carracing_env import CarRacing
from tools.release.parts import read_initial_z, read_vae
from tools.release.transfer import import_run
from train_controller import temperatures
from vae.data import check_episodes, episode_path, read_episode
from world_model import WorldModel, load_rnn, load_vae, make_rnn, make_vae

SMALL = dict(z_size=4, rnn_units=5, mixtures=2, rnn_length=9, rnn_batch=2, population=4, max_frames=20, episodes=2)


def small(task: str = "carracing", **changes) -> configs.Config:
    return dataclasses.replace(tasks.preset(task, "smoke"), **{**SMALL, **changes})


def make_run(run, task: str = "carracing", **changes) -> configs.Config:
    """A run of a small V and M with weights of their own, first frames and an agent."""
    config = small(task, **changes)
    run_dir.save(config, run)
    rng = np.random.default_rng(config.seed)
    rnn = make_rnn(config)
    for variable in rnn.trainable_variables:
        variable.assign(rng.normal(0, 0.1, variable.shape))
    training.save_weights(make_vae(config), run / "vae.weights.h5", {"task": task, "pixels": config.pixels})
    vae = integrity.digests(run, "vae")
    training.save_weights(rnn, run / "rnn.weights.h5", vae | {"task": task})
    frames = {name: rng.normal(size=(3, config.z_size)).astype(np.float32) for name in ("mu", "logvar")}
    training.save_arrays(run / "initial_z.npz", frames, vae)
    return config


def evolve(run, config) -> Evolution:
    """Three generations of a search whose scores are invented."""
    evolution = Evolution(run, config, Controller.of(config).num_params)
    for generation in range(1, 4):
        evolution.es.tell(-(evolution.es.ask() ** 2).sum(axis=1))
        evolution.log_generation(np.arange(4.0), np.full(4, 9), 1.0)
        evolution.log_evaluation(evolution.es.best(), np.array([1.0, 2.0]) * generation, 1.0)
    evolution.save()
    return evolution


def read_best(run, config) -> dict:
    return agent_file.read_best(run / "controller", Controller.of(config).num_params)


def edit_json(path, **changes) -> None:
    """Changes values in a JSON file as a user would who knows of the digest."""
    content = json.loads(path.read_text())
    content.pop("digest", None)
    path.write_text(json.dumps(content | changes))


def flip(path, at: int) -> None:
    """Changes a byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(bytes(content))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, config) of a small run with an evolved agent."""
    run = tmp_path_factory.mktemp("made") / "run"
    config = make_run(run)
    evolve(run, config)
    return run, config


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "run"), made[1]


# Numbers that are not finite


class Weight:
    """A model of one number, and a step that makes NaN of it at step `at`, after a loss that is finite."""

    def __init__(self, at: int):
        self.value, self.at = tf.Variable(0.0, name="value"), at
        self.variables = [self.value]

    def step(self, number, batch) -> dict:
        loss = float(self.value)
        self.value.assign_add(np.nan if int(number) == self.at else 0.1)
        return {"loss": loss}


@pytest.mark.parametrize("steps", [3, 5])
def test_training_saves_no_weights_after_an_update_that_broke_them(steps, tmp_path):
    model = Weight(at=2)
    batches = lambda first: (((),) for _ in range(first, steps))  # noqa: E731
    with pytest.raises(UserError, match="toy: loss nan at step 4"):
        training.fit(tmp_path, "toy", model, [], model.step, batches, steps)
    assert not (tmp_path / "toy.weights.h5").exists()


def test_a_checkpoint_of_broken_weights_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    model = Weight(at=1)
    with pytest.raises(UserError, match="expected finite numbers, found NaN or infinity in 000"):
        training.fit(tmp_path, "toy", model, [], model.step, lambda first: iter([((),)] * 4), 4, every=2)
    with np.load(tmp_path / "toy.checkpoint.npz") as file:  # of the step before
        assert int(file["step"]) == 1 and np.isfinite(file["000"]).all()
    assert not (tmp_path / "toy.weights.h5").exists()


def test_rates_that_break_m_leave_no_m(car_run, tmp_path):
    """M trained one step at a rate of 1e38: finite weights, with which nothing can be computed."""
    run = tmp_path / "run"
    flags = ["--from", car_run, "--rnn-rate", "1e38", "--rnn-rate-end", "1e38", "--rnn-steps", "1"]
    done = run_script("train_rnn.py", "--run", run, *flags, check=False)
    assert done.returncode == 2 and "error: rnn: loss" in done.stderr and "at step 2" in done.stderr
    assert not (run / "rnn.weights.h5").exists()


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(copied):
    run, config = copied
    rnn = load_rnn(run, config)
    rnn.cell.bias.assign(np.full(rnn.cell.bias.shape, np.inf))
    with pytest.raises(UserError, match=r"rnn\.weights\.h5: .* NaN or infinity in .*bias"):
        training.save_weights(rnn, run / "rnn.weights.h5")
    load_rnn(run, config)  # the file from before is there
    rnn.save_weights(run / "rnn.weights.h5")  # as an older version did
    (run / "vae.weights.h5").unlink()
    with pytest.raises(UserError, match=r"rnn\.weights\.h5: .* NaN or infinity in .*bias"):
        load_rnn(run, config)


@pytest.mark.parametrize("value", [np.nan, None, np.inf, "0.5", True])
def test_parameters_that_are_no_finite_numbers_are_refused(value, copied):
    run, config = copied
    path = run / "controller" / "best.json"
    parameters = json.loads(path.read_text())["parameters"]
    edit_json(path, parameters=[value, *parameters[1:]])
    with pytest.raises(UserError, match=r"best\.json"):
        read_best(run, config)


@pytest.mark.parametrize(("name", "value"), [("mu", np.nan), ("logvar", 1000.0)])
def test_first_frames_that_are_not_finite_are_refused(name, value, copied):
    run, config = copied
    arrays = {"mu": np.zeros((3, 4), np.float32), "logvar": np.zeros((3, 4), np.float32)}
    arrays[name][1, 2] = value
    training.save_arrays(run / "initial_z.npz", arrays, integrity.digests(run, "vae"))
    with pytest.raises(UserError, match=r"initial_z\.npz: expected finite numbers"):
        Starts(run, config)


class Ruins:
    """An environment whose reward is what it is told."""

    def __init__(self, reward: float):
        self.reward = reward

    def reset(self, seed):
        return np.zeros((64, 64, 3), np.uint8), {}

    def step(self, action):
        return np.zeros((64, 64, 3), np.uint8), self.reward, False, False, {}


def test_an_episode_with_a_nan_action_or_reward_is_named(copied):
    run, config = copied
    config = dataclasses.replace(config, lanes=2)
    for reward, poison, message in ((np.nan, 0.0, "the reward"), (1.0, np.nan, "C's action")):
        lanes = RealLanes(config, WorldModel.load(run, config), 2)
        lanes.envs = [Ruins(1.0), Ruins(reward)]
        params = np.zeros((2, Controller.of(config).num_params))
        params[1] += poison
        for lane in range(2):
            lanes.start(lane, params[lane], 70 + lane)
        with pytest.raises(UserError, match=f"episode of seed 71: .* in {message}"):
            lanes.advance()


def test_a_dream_of_nan_is_no_long_life(tmp_path):
    config = make_run(tmp_path / "run", "doom")
    rnn = load_rnn(tmp_path / "run", config)
    rnn.head.bias.assign(np.full(rnn.head.bias.shape, np.nan))
    lanes = DreamLanes(config, WorldModel(None, rnn, 1.0), Starts(tmp_path / "run", config), 2)
    lanes.start(0, np.zeros(Controller.of(config).num_params), 5)
    with pytest.raises(UserError, match=r"dream of seed 5: .* in z"):
        lanes.advance()


def test_environments_take_no_nan(copied):
    env = CarRacing()
    env.reset(seed=1)
    with pytest.raises(UserError, match="action: expected finite numbers"):
        env.step(np.array([0, np.nan, 0], np.float32))
    dream = DreamEnv(copied[0])
    dream.reset(seed=1)
    with pytest.raises(UserError, match="action: expected finite numbers"):
        dream.step([np.nan, 0, 0])


def test_an_episode_of_nan_is_not_recorded(tmp_path):
    episode = Episode()
    episode.add(np.zeros((64, 64, 3), np.uint8), np.zeros(3), np.nan, False, False)
    with pytest.raises(UserError, match=r"000000\.npz: .* in reward"):
        recording.write(tmp_path / "000000.npz", episode.arrays(), {})
    assert not list(tmp_path.iterdir())


def test_a_score_of_nan_is_refused():
    es = CMAES(3, 0.1, 4, np.random.default_rng(0))
    es.ask()
    with pytest.raises(UserError, match="the score of candidate 2"):
        es.tell(np.array([1, 2, np.nan, 3]))


@pytest.mark.parametrize(
    "name", [item.name for item in dataclasses.fields(configs.Config) if item.type is float and item.name != "task"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_settings_are_finite(name, value):
    with pytest.raises(UserError, match=configs.flag(name)):
        tasks.check(small(**{name: value}))


@pytest.mark.parametrize("text", ["nan", "1,inf", "0.5,nan"])
def test_temperatures_are_finite(text):
    with pytest.raises(UserError, match="--temperatures: expected numbers above 0"):
        temperatures(text)


# Damaged files


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
    with pytest.raises(
        UserError, match=r"series\.npz does not hold latents \((mu\.npy is damaged|Bad CRC-32 for file 'mu\.npy')\)"
    ):
        LatentDataset.read(run / "series.npz", 4, 2)


def make_latents(mu: float = 1.0) -> LatentDataset:
    mus = np.full((20, 4), mu, np.float16)
    lengths = np.array([10, 10])
    return LatentDataset(mus, mus, np.zeros((20, 3), np.float32), np.zeros(20, np.float32), lengths, lengths)


# Another run's, another task's


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


def refused_search(run, config, message: str) -> None:
    """The search is not resumed, and nothing is written."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=message):
        Evolution(run, config, Controller.of(config).num_params)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


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
    refused_search(run, dataclasses.replace(config, seed=1), r"checkpoint\.npz is another run's: seed 0, expected 1")
    refused_search(run, dataclasses.replace(config, population=6), "a population of 4, expected 6")
    refused_search(run, dataclasses.replace(config, view="v3", features="z"), "of shape")
    assert len(Evolution(run, config, Controller.of(config).num_params).history) == 3


@pytest.mark.parametrize("damage", ["nan", "lacks", "header", "half"])
def test_a_damaged_checkpoint_is_refused_before_anything_is_written(damage, copied):
    run, config = copied
    path = run / "controller" / "checkpoint.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    if damage == "nan":
        arrays["mean"] = np.full_like(arrays["mean"], np.nan)
    elif damage == "lacks":
        del arrays["pc"]
    elif damage == "header":
        arrays["header"] = np.array("[1]")
    np.savez(path, **arrays)
    if damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused_search(run, config, r"checkpoint\.npz")


def crafted(path, change) -> None:
    """Rewrites a search's checkpoint as one who knows its format: `change(arrays, header)`."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays.pop("header")))
    change(arrays, header)
    np.savez(path, header=np.array(json.dumps(header)), **arrays)


CRAFTED = {
    "text": lambda a, h: a.update(mean=np.full(a["mean"].shape, "x")),
    "complex": lambda a, h: a.update(mean=a["mean"] + 1j),
    "no generator": lambda a, h: h.update(random={}),
    "absurd generator": lambda a, h: h["random"]["state"].update(state=1 << 300),
    "NaN step size": lambda a, h: h["small"].update(sigma=float("nan")),
    "negative step size": lambda a, h: h["small"].update(sigma=-1.0),
    "a word for a step size": lambda a, h: h["small"].update(sigma="0.1"),
    "another dimension": lambda a, h: h["small"].update(N=9),
    "a method": lambda a, h: h["small"].update(ask=3),
    "a class": lambda a, h: h["small"].update({"sm.__class__": 4}),
    "options": lambda a, h: h["small"].update(opts={}),
    "nowhere": lambda a, h: h["small"].update({"nowhere.deep": 3}),
    "no history": lambda a, h: h["extra"].pop("history"),
    "half a history": lambda a, h: h["extra"].update(history=h["extra"]["history"][1:]),
    "a line without a mean": lambda a, h: h["extra"]["history"][0].pop("mean"),
    "an infinite mean": lambda a, h: h["extra"]["history"][0].update(mean=float("inf")),
    "an agent of another size": lambda a, h: h["extra"]["best"].update(parameters=[0.5]),
    "another arithmetic": lambda a, h: h["extra"].update(dtype="float64"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_checkpoint_is_refused_before_anything_is_written(name, copied):
    run, config = copied
    crafted(run / "controller" / "checkpoint.npz", CRAFTED[name])
    refused_search(run, config, r"checkpoint\.npz")


@pytest.mark.parametrize(
    ("optimizer", "change"),
    [
        ("openai-es", lambda a, h: h.update(steps="x")),
        ("openai-es", lambda a, h: h.update(steps=-7)),
        ("openai-es", lambda a, h: a.update(second=-np.ones_like(a["second"]))),
        ("openai-es", lambda a, h: a.update(center=np.full_like(a["center"], np.inf))),
        ("ga", lambda a, h: a.update(parents=a["parents"].astype(int))),
        ("ga", lambda a, h: a.update(parents=a["parents"][0])),
        ("cma-diagonal", lambda a, h: h["small"].update(countiter="x")),
        ("cma-tpa", lambda a, h: h["small"].update({"adapt_sigma.cs": [1]})),
    ],
)
def test_crafted_checkpoints_of_the_other_searches_are_refused(optimizer, change, tmp_path):
    config = make_run(tmp_path, optimizer=optimizer)
    evolve(tmp_path, config)
    assert len(Evolution(tmp_path, config, Controller.of(config).num_params).history) == 3
    crafted(tmp_path / "controller" / "checkpoint.npz", change)
    refused_search(tmp_path, config, r"checkpoint\.npz")


def test_an_agent_of_a_sibling_run_is_refused(made, tmp_path):
    """Evolved from the same V and M, but with another seed."""
    sibling = tmp_path / "sibling"
    config = run_dir.open_run(sibling, {"seed": 1}, made[0])
    evolve(sibling, config)
    read_best(sibling, config)
    shutil.copyfile(made[0] / "controller" / "best.json", sibling / "controller" / "best.json")
    with pytest.raises(UserError, match=r"best\.json is another run's: seed 0, expected 1"):
        read_best(sibling, config)


def test_v_of_another_seed_is_refused_unless_the_run_began_from_it(tmp_path):
    config = make_run(tmp_path / "run")
    record = {"task": config.task, "pixels": config.pixels, "seed": 7, "round": 1}
    training.save_weights(make_vae(config), tmp_path / "run" / "vae.weights.h5", record)
    write = lambda origin: run_dir.write_text(tmp_path / "run" / "config.json", config_file.text(config, origin))  # noqa: E731
    write({})
    with pytest.raises(UserError, match=r"vae\.weights\.h5 is another run's: seed 7, expected 0"):
        load_vae(tmp_path / "run", config)
    for origin in ({"from": "../base"}, None):
        write(origin)
        load_vae(tmp_path / "run", config)


def test_results_with_another_digit_are_refused(tmp_path):
    path = tmp_path / "results.json"
    row = dict.fromkeys(results.KEY, "x") | {"mean": 906.0}
    results.add(path, row)
    assert results.read(path) == [row]
    path.write_text(path.read_text().replace("906.0", "996.0"))
    with pytest.raises(UserError, match=r"results\.json is not as it was written"):
        results.read(path)


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
    with pytest.raises(UserError, match=r"vae\.checkpoint\.npz is another run's: seed 0, expected 1"):
        other.restore()
    np.testing.assert_array_equal(variable, np.ones(3))
    assert mine.restore() == (7, {"loss": 0.5}) and not variable.numpy().any()


def test_weights_of_another_task_are_refused(copied):
    run, _ = copied
    edit_json(run / "config.json", pixels="release")
    with pytest.raises(UserError, match=r"vae\.weights\.h5 is another run's: pixels paper, expected release"):
        load_vae(run, run_dir.load(run))


def episode_of(run, index: int, config, frames: int = 5, **source) -> None:
    size = tasks.get(config.task).action_size
    arrays = {"obs": np.zeros((frames, 64, 64, 3), np.uint8), "action": np.zeros((frames, size), np.float32)}
    arrays |= {"reward": np.zeros(frames, np.float32), "end": np.array(frames + 1)}
    recording.write(episode_path(run, index), arrays, recording.origin(config, index) | source)


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


def test_an_episode_without_frames_is_refused(tmp_path):
    episode_of(tmp_path, 0, small(), frames=0)
    path = episode_path(tmp_path, 0)
    with pytest.raises(UserError, match=r"000000\.npz is not a whole episode"):
        check_episodes([path], small())
    with pytest.raises(UserError, match=r"000000\.npz is not a whole episode"):
        read_episode(path)


# Configurations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_size": "32"}, "--z-size: expected a whole number, got '32'"),
        ({"z_size": 32.0}, "--z-size: expected a whole number, got 32.0"),
        ({"z_size": None}, "--z-size: expected a whole number, got None"),
        ({"z_size": True}, "--z-size: expected a whole number, got True"),
        ({"sigma": "0.1"}, "--sigma: expected a number, got '0.1'"),
        ({"eval_every": 0}, "--eval-every: expected 1 or more, got 0"),
        ({"kl_tolerance": float("nan")}, "expected finite numbers, found NaN"),
        ({"task": "pong"}, "unknown task 'pong'"),
        ({"colour": 3}, "it has unknown settings: colour"),
    ],
)
def test_configurations_are_read_strictly(changes, message, tmp_path):
    run_dir.save(small(), tmp_path)
    edit_json(tmp_path / "config.json", **changes)
    with pytest.raises(UserError, match=rf"config\.json .*{message}"):
        run_dir.load(tmp_path)


def test_a_missing_setting_is_not_another_tasks_default(tmp_path):
    run_dir.save(small("doom"), tmp_path)
    path = tmp_path / "config.json"
    whole = json.loads(path.read_text())
    del whole["digest"]
    path.write_text(json.dumps({name: value for name, value in whole.items() if name != "z_size"}))
    with pytest.raises(UserError, match="it lacks settings: z_size"):
        run_dir.load(tmp_path)
    # But runs from before a setting was one are what they were.
    path.write_text(json.dumps({k: v for k, v in whole.items() if k not in ("heads", *config_file.ADDED)}))
    assert run_dir.load(tmp_path) == small("doom")


def test_every_shipped_run_is_read():
    runs = [path.parent for path in (ROOT / "pretrained").rglob("config.json")]
    assert len(runs) > 3 and {run_dir.load(run).task for run in runs} == {"carracing", "doom"}


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[1]", b"[" * 100_000, b'{"task": 1e', b"7"])
def test_what_is_no_configuration_is_one_line(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json"):
        run_dir.load(tmp_path)


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[1]", b"7", b"[" * 100_000, b'{"loss": NaN}', b'{"a": "\xff"}'])
def test_a_line_that_is_no_object_is_named(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"model": "vae"}\n' + line + b'\n{"model": "vae"}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2, is broken"):
        run_dir.read_lines(path)


@pytest.mark.parametrize("rollouts", ["4,50:16,20:8", "4,20:8,20:16", "3:4", "4,", "4,x:8", "0", "-1", "4,:8"])
def test_schedules_that_do_not_ascend_are_refused(rollouts):
    with pytest.raises(UserError, match="--rollouts: expected a count"):
        tasks.check(small(rollouts=rollouts))


# Where a run began


def test_a_base_is_recorded_and_no_other_is_taken(made, tmp_path):
    base, config = made
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


# The search


def test_a_file_of_signals_does_not_steer_the_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cma_signals.in").write_text("{'timeout': 0, 'maxiter': 1, 'CMA_on': 0}\n")
    es = CMAES(3, 0.1, 4, np.random.default_rng(0))
    for _ in range(3):
        es.tell(-(es.ask() ** 2).sum(axis=1))
        es.search.stop()
    assert es.search.opts["CMA_on"] and es.search.opts["maxiter"] > 1


def test_what_a_checkpoint_cannot_hold_is_an_error(tmp_path):
    es = CMAES(3, 0.1, 4, np.random.default_rng(0))
    es.tell(-(es.ask() ** 2).sum(axis=1))
    es.search.sm.unknown_type = {"a": 1}  # as a later pycma might keep
    with pytest.raises(TypeError, match=rf"pycma {cma.__version__} keeps sm\.unknown_type"):
        es.save(tmp_path / "state.npz", {})


def test_of_equal_means_the_later_is_kept(tmp_path):
    evolution = Evolution(tmp_path, small(), 9)
    for generation in range(1, 4):
        evolution.log_generation(np.arange(4.0), np.full(4, 60), 1.5)
        evolution.log_evaluation(np.full(9, generation / 10), np.array([2100.0, 2100.0]), 0.5)
    assert evolution.best["generation"] == 3 and evolution.best["parameters"] == [0.3] * 9


def test_a_doom_episode_that_was_cut_is_no_death():
    """Real ViZDoom, in which nobody dies within 12 steps."""
    config = dataclasses.replace(tasks.preset("doom", "smoke"), max_frames=12, min_frames=0)
    env = make_env(config)
    episode = recording.record(env, config, 0)
    env.close()
    assert len(episode["obs"]) == 12 and int(episode["end"]) == 13
    mu = np.zeros((12, 4), np.float16)
    lengths, ends = np.array([12]), np.array([int(episode["end"])])
    latents = LatentDataset(mu, mu, episode["action"], episode["reward"], ends, lengths)
    *_, end, _, valid = latents.frames(np.arange(12)[:, None], np.zeros((12, 1, 1)))
    assert not end.any() and valid.all()


def test_v_and_m_draw_other_noise(monkeypatch):
    """The keys with which their steps draw, of the same run and step."""
    import rnn.train
    import vae.train

    seen = []

    def draw(shape, seed):
        seen.append(int(seed[0]))
        raise InterruptedError

    monkeypatch.setattr(tf.random, "stateless_normal", draw)
    config = small()
    steps = [vae.train.make_step(None, None, config), rnn.train.make_step(None, None, None, config)]
    frames, zeros = np.zeros((1, 64, 64, 3), np.uint8), np.zeros((2, 1, 4), np.float32)
    for step, batch in zip(steps, ((frames,), (True, zeros, zeros, *[zeros] * 5)), strict=True):
        with contextlib.suppress(Exception):  # TensorFlow's own, around that of `draw`
            step(tf.constant(0, tf.int64), *batch)
    assert len(set(seen)) == len(seen) == 2


# The release's files, and the command line


@pytest.mark.parametrize("number", ["1e300", "9" * 5000, "NaN", "1e38"])
def test_absurd_numbers_in_the_releases_files_are_refused(number, tmp_path):
    config = small()
    (tmp_path / "initial_z.json").write_text(f"[[[{number}, 1, 1, 1]], [[1, 1, 1, 1]]]")
    if number == "1e38":  # as float32 has it; but no logvar
        (tmp_path / "initial_z.json").write_text("[[[1, 1, 1, 1]], [[10000000, 1, 1, 1]]]")
    with pytest.raises(UserError, match=r"initial_z\.json"):
        read_initial_z(tmp_path / "initial_z.json", config)
    (tmp_path / "vae.json").write_text(f"[[[[[{number}]]]]]")
    with pytest.raises(UserError, match=r"vae\.json"):
        read_vae(tmp_path / "vae.json", config)


def test_an_imported_agent_is_read_without_its_v(tmp_path):
    """The release's files do not say which belong together."""
    config = small(features="z")
    size = Controller.of(config).num_params
    (tmp_path / "best.json").write_text(json.dumps([[0.5] * size, 12.5]))
    given = {name: getattr(config, name) for name in ("task", "features", "z_size", "rnn_units", "mixtures")}
    import_run(tmp_path / "run", {"controller": tmp_path / "best.json"}, given)
    training.save_weights(make_vae(config), tmp_path / "run" / "vae.weights.h5", {})
    assert read_best(tmp_path / "run", config)["parameters"] == [0.5] * size


def test_flags_are_not_abbreviated(capsys):
    with pytest.raises(SystemExit):
        command_line.parser("x").parse_args(["--run", "r", "--generation", "3"])
    assert "unrecognized arguments: --generation 3" in capsys.readouterr().err


def test_keras_may_still_draw():
    """TensorFlow's start takes no module from those that import it later."""
    code = "from common.training import quiet_tensorflow; quiet_tensorflow(); import keras.src.visualization as v; "
    code += "from keras.src.visualization import plot_image_gallery as p; assert p.plt is not None"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("settings", "ranks"),
    [
        (("run", "CORES=32", "GIGABYTES=60"), 16),
        (("run", "CORES=32", "GIGABYTES=5", "PRESET=paper"), 5),
        (("run", "CORES=32", "GIGABYTES=0"), 1),
        (("run", "CORES=2", "GIGABYTES=60"), 2),
        (("evaluate", "CORES=128", "GIGABYTES=300"), 100),
    ],
)
def test_make_starts_no_more_ranks_than_there_is_work_and_memory_for(settings, ranks):
    done = subprocess.run(["make", "-n", *settings], cwd=ROOT, capture_output=True, text=True)
    assert f"mpirun -n {ranks} " in done.stdout
