"""Numbers that are not finite are neither made, saved nor loaded."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_run import add_agent, make_run, new_run, size_of, small

from controller.lanes import DreamLanes, RealLanes
from controller.policy import Controller
from doom_rnn.dream import Starts
from doom_rnn.env import DreamEnv
from doom_rnn.vector import VectorDreamEnv
from world_models import config as configs
from world_models import tasks, training
from world_models.config import UserError
from world_models.runs import episodes, weights
from world_models.runs.agent import read_best
from world_models.stages.recording import Episode
from world_models.tasks.actions import checked, one_hot
from world_models.tasks.carracing_env import CarRacing
from world_models.world_model import WorldModel, load_rnn


class Weight:
    """A model of one number. Its step `at` makes it NaN, after a finite loss."""

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
    with pytest.raises(UserError, match=r"vae: loss nan at step 4|vae\.weights\.h5: .* NaN or infinity"):
        training.fit(new_run(tmp_path / "run"), "vae", model, [], model.step, batches, steps)
    assert not (tmp_path / "run/vae.weights.h5").exists()


def test_a_checkpoint_of_broken_weights_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    model = Weight(at=1)
    run = new_run(tmp_path / "run")
    with pytest.raises(UserError, match="expected finite numbers, found NaN or infinity in 000"):
        training.fit(run, "vae", model, [], model.step, lambda first: iter([((),)] * 4), 4, every=2)
    with np.load(run / "vae.checkpoint.npz") as file:  # of the step before
        assert int(file["step"]) == 1 and np.isfinite(file["000"]).all()
    assert not (run / "vae.weights.h5").exists()


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path):
    run = make_run(tmp_path / "run")
    rnn = load_rnn(run)
    rnn.cell.bias.assign(np.full(rnn.cell.bias.shape, np.inf))
    with pytest.raises(UserError, match=r"rnn\.weights\.h5: .* NaN or infinity in .*bias"):
        weights.save(rnn, run, "rnn.weights.h5")
    load_rnn(run)  # the file from before exists
    memory = weights.Memory()
    rnn.save_weights(memory)
    with run.write("rnn.weights.h5") as tmp:
        tmp.write_bytes(memory.getvalue())
    with pytest.raises(UserError, match=r"rnn\.weights\.h5: .* NaN or infinity in .*bias"):
        load_rnn(run)


@pytest.mark.parametrize("value", [np.nan, None, np.inf, "0.5", True, 10**400, 1e300])
def test_parameters_that_are_not_finite_numbers_are_refused(value, tmp_path):
    run = make_run(tmp_path / "run")
    size = size_of(run.config)
    add_agent(run)
    best = read_best(run, size)
    run.write_text("controller/best.json", json.dumps(best | {"parameters": [value, *best["parameters"][1:]]}))
    with pytest.raises(UserError, match=r"best\.json"):
        read_best(run, size)


@pytest.mark.parametrize(("name", "value"), [("mu", np.nan), ("logvar", 1000.0)])
def test_first_frames_that_are_not_finite_are_refused(name, value, tmp_path):
    run = make_run(tmp_path / "run")
    arrays = {"mu": np.zeros((3, 4), np.float32), "logvar": np.zeros((3, 4), np.float32)}
    arrays[name][1, 2] = value
    with run.write("initial_z.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(UserError, match=r"initial_z\.npz: expected finite numbers"):
        Starts(run)


class Paying:
    """An environment with the same reward in each step."""

    def __init__(self, reward: float):
        self.reward = reward

    def reset(self, seed):
        return np.zeros((64, 64, 3), np.uint8), {}

    def step(self, action):
        return np.zeros((64, 64, 3), np.uint8), self.reward, False, False, {}


def test_an_episode_with_a_nan_action_or_reward_is_named(tmp_path):
    run = make_run(tmp_path / "run")
    for reward, poison, message in ((np.nan, 0.0, "the reward"), (1.0, np.nan, "C's action")):
        lanes = RealLanes(run.config, WorldModel.load(run), 2, envs=[Paying(1.0), Paying(reward)])
        params = np.zeros((2, size_of(run.config)))
        params[1] += poison
        for lane in range(2):
            lanes.start(lane, params[lane], 70 + lane)
        with pytest.raises(UserError, match=f"episode of seed 71: .* in {message}"):
            lanes.advance()


def test_a_dream_of_nan_is_an_error_not_a_long_episode(tmp_path):
    run = make_run(tmp_path / "run", "doom")
    rnn = load_rnn(run)
    rnn.head.bias.assign(np.full(rnn.head.bias.shape, np.nan))
    lanes = DreamLanes(run.config, WorldModel(None, rnn, 1.0), Starts(run), 2)
    lanes.start(0, np.zeros(size_of(run.config)), 5)
    with pytest.raises(UserError, match=r"dream of seed 5: .* in z"):
        lanes.advance()


def test_environments_refuse_nan(small_run):
    env = CarRacing()
    env.reset(seed=1)
    with pytest.raises(UserError, match="action: expected finite numbers"):
        env.step(np.array([0, np.nan, 0], np.float32))
    dream = DreamEnv(small_run)
    dream.reset(seed=1)
    with pytest.raises(UserError, match="action: expected finite numbers"):
        dream.step([np.nan, 0, 0])


def test_an_episode_of_nan_is_not_recorded(tmp_path):
    episode = Episode()
    episode.add(np.zeros((64, 64, 3), np.uint8), np.zeros(3), np.nan, False, False)
    with pytest.raises(UserError, match=r"000000\.npz: .* in reward"):
        episodes.write(tmp_path / "000000.npz", episode.arrays(), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(configs.Config) if item.type is float])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_settings_are_finite(name, value):
    with pytest.raises(UserError, match=configs.flag(name)):
        tasks.check(small(**{name: value}))


@pytest.mark.parametrize("ops", [np, keras.ops])
def test_a_choice_of_nan_stays_nan(ops):
    found = np.asarray(one_hot(ops.array([[0.1, np.nan, 0.2], [0.3, 0.2, 0.1]]), ops))
    assert np.isnan(found[0, 1])
    np.testing.assert_array_equal(found[1], [1, 0, 0])


def test_an_agent_of_nan_chooses_nothing():
    controller = Controller.of(tasks.preset("gymnasium:CartPole-v1", "smoke"))
    z, h = np.zeros((1, controller.z_size)), np.zeros((1, controller.units))
    action = controller.act(np.full((1, controller.num_params), np.nan), z, h, h)
    with pytest.raises(UserError, match="action: expected finite numbers"):
        checked(action, 1, 2)


def test_dream_environments_end_at_numbers_that_are_not_finite(tmp_path):
    """M's weights are finite, but too large to compute with."""
    run = make_run(tmp_path / "run")
    rnn = load_rnn(run)
    rnn.head.bias.assign(np.full(rnn.head.bias.shape, 1e30))
    weights.save(rnn, run, "rnn.weights.h5")
    one, batch = DreamEnv(run.path), VectorDreamEnv(2, run.path)
    for env, action in ((one, np.zeros(3)), (batch, np.zeros((2, 3)))):
        env.reset(seed=1)
        with pytest.raises(UserError, match=f"a dream of {run}: .* in z"):
            env.step(action)
