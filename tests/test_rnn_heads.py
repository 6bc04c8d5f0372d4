"""M's heads: the episode's end and the step's reward."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_rnn import make_series, small

from rnn.batches import Streams
from rnn.train import initialize_from, make_step, reward_unit, set_reward_unit
from world_models import tasks
from world_models.training import make_optimizer
from world_models.world_model import make_rnn


def test_restart_loss_weighs_deaths_tenfold():
    config = small("doom")
    model = make_rnn(config)
    output = np.zeros((2, 1, 1 + 15 * config.z_size), np.float32)  # logit 0: cross-entropy log 2 either way
    end, valid = np.float32([[[0]], [[1]]]), np.ones((2, 1, 1), np.float32)
    losses = model.losses(output, np.zeros((2, 1, config.z_size), np.float32), end, 0 * end, valid)
    assert float(losses["r_loss"]) == pytest.approx((1 + 10) / 2 * np.log(2), rel=1e-5)
    assert float(losses["loss"]) == pytest.approx(float(losses["r_loss"] + losses["z_loss"]))


def heads_losses(end, reward, valid, outputs) -> dict:
    """Losses of an M with both heads, for steps whose head outputs (end logit, reward in units of its scale) are
    given."""
    config = dataclasses.replace(small("carracing"), heads="end+reward", optimism_weight=3.0)
    model = make_rnn(config)
    model.reward_scale.assign(2.0)
    steps = len(end)
    output = np.zeros((steps, 1, 2 + 15 * config.z_size), np.float32)
    output[:, 0, :2] = outputs
    columns = (np.float32(values).reshape(steps, 1, 1) for values in (end, reward, valid))
    return model.losses(output, np.zeros((steps, 1, config.z_size), np.float32), *columns)


def test_reward_loss_is_a_squared_error_that_weighs_optimism():
    # Units of 2: rewards 4 and -2 are 2 and -1; predicted 3 (too high by 1, weight 3) and -2 (too low by 1).
    losses = heads_losses([0, 0], [4, -2], [1, 1], [[0, 3], [0, -2]])
    assert float(losses["reward_loss"]) == pytest.approx((3 * 1 + 1) / 2)
    # Linear from an error of 5 units on, 45 of them too high: an episode's last reward does not outweigh the others.
    assert float(heads_losses([0], [-100], [1], [[0, -5]])["reward_loss"]) == pytest.approx(3 * 5 * (2 * 45 - 5))
    assert float(heads_losses([0], [-100], [1], [[0, -50]])["reward_loss"]) == pytest.approx(0)


def test_another_unit_of_rewards_changes_no_prediction():
    """As where a later round has met rewards that the first never saw."""
    config = dataclasses.replace(small("carracing"), heads="end+reward")
    model = make_rnn(config)
    set_reward_unit(model, 0.5, trained=False)
    h = np.random.default_rng(0).normal(size=(4, config.rnn_units)).astype(np.float32)
    before = model.head(h).numpy(), model.reward(model.head(h)).numpy()
    set_reward_unit(model, 20.0, trained=True)
    after = model.head(h).numpy(), model.reward(model.head(h)).numpy()
    np.testing.assert_allclose(after[1], before[1], rtol=1e-5)
    np.testing.assert_array_equal(np.delete(after[0], 1, axis=1), np.delete(before[0], 1, axis=1))
    assert float(model.reward_scale) == 20.0


def test_frames_after_the_end_teach_no_end_and_no_reward():
    there = heads_losses([0, 1], [4, -2], [1, 0], [[0, 3], [9, 9]])
    assert float(there["r_loss"]) == pytest.approx(np.log(2) / 2, rel=1e-5)
    assert float(there["reward_loss"]) == pytest.approx(3 / 2)
    assert float(there["loss"]) == pytest.approx(float(there["z_loss"] + there["r_loss"] + there["reward_loss"]))


def test_frames_know_their_end_reward_and_what_came_after():
    config = small("carracing")
    series = make_series(config, [4, 5])
    series.ends = np.array([3, 6])  # the first is over after three steps, the second never
    series.reward = np.arange(9, dtype=np.float32)
    index = np.arange(9)[:, None]
    *_, end, reward, valid = series.frames(index, np.zeros((9, 1, 1), np.float32))
    assert end.ravel().tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert valid.ravel().tolist() == [1, 1, 1, 0, 1, 1, 1, 1, 1]
    assert reward.ravel().tolist() == list(range(9))


@pytest.mark.parametrize(("heads", "others"), [("end+reward", "none"), ("none", "end"), ("reward", "end+reward")])
def test_m_is_initialized_from_an_m_with_other_heads(heads, others):
    """The same z predicted, step by step; heads that both have predict the same too."""
    ours, theirs = (make_rnn(dataclasses.replace(small("carracing"), heads=name)) for name in (heads, others))
    for weight in theirs.weights:
        weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape))
    initialize_from(ours, theirs)
    rng = np.random.default_rng(0)
    z, action = rng.normal(size=(2, 32)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    state = rng.normal(size=(2, 2, 16)).astype(np.float32)
    outputs = [model.head(model.step(z, action, np.zeros((2, 1), np.float32), state)[0]) for model in (ours, theirs)]
    for found, expected in zip(ours.split(outputs[0]), theirs.split(outputs[1]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for name in ours.heads:
        method = "end_logit" if name == "end" else name
        expected = getattr(theirs, method)(outputs[1]) if name in theirs.heads else np.zeros((2, 1))
        np.testing.assert_allclose(getattr(ours, method)(outputs[0]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("rewards", "unit"),
    [([1.0] * 9, 1.0), ([-0.1] * 9, 0.1), ([0.0] * 9, 1.0), ([0.0, 100.0], 50.0), ([3.2, -0.1], 1.65)],
)
def test_the_unit_of_rewards_is_never_far_below_them(rewards, unit):
    for scale in (1.0, 1e-25, 1e18, 1e20, 1e30):  # float32's squares end at 1e-23 and at 1e19
        expected = unit * scale if any(rewards) else 1
        assert reward_unit(np.float32(rewards) * np.float32(scale)) == pytest.approx(expected)


@pytest.mark.parametrize("reward", [-0.1, 50.0])
def test_m_learns_a_reward_that_is_always_the_same(reward):
    """As CartPole's, the same in every step."""
    config = tasks.replace(small("gymnasium:CartPole-v1"), heads="end+reward", play_in="real")
    series = make_series(config, [20, 30, 40, 50, 60])
    series.reward[:] = reward
    keras.utils.set_random_seed(0)
    model = make_rnn(config)
    set_reward_unit(model, reward_unit(series.reward), trained=False)
    state = [tf.Variable(tf.zeros((4, 16)), trainable=False) for _ in range(2)]
    step = make_step(model, make_optimizer(1e-2, model.trainable_variables), state, config)
    batches = Streams(series, config.rnn_batch, config.rnn_length, seed=0)(0)
    for number in range(200):
        step(tf.constant(number, tf.int64), *next(batches))
    predicted = model.reward(model.head(state[0])).numpy()
    assert predicted == pytest.approx(np.full((4, 1), reward), rel=0.2)
