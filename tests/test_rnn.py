"""M: its LSTM, its mixture, its training; CarRacing's and Doom's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_rnn import make_series, small

from rnn import lstm, mdn
from rnn.batches import Streams, Windows
from rnn.dropout import dropout_mask
from rnn.train import Rate, make_step
from world_models import seeds, tasks
from world_models.training import make_optimizer
from world_models.world_model import make_rnn


@pytest.mark.parametrize(("task", "parameters"), [("carracing", 422_368), ("doom", 1_678_785)])
def test_parameters_are_as_many_as_published(task, parameters):
    assert make_rnn(tasks.preset(task, "paper")).count_params() == parameters


def test_forget_bias_is_one():
    bias = make_rnn(tasks.preset("carracing", "paper")).cell.bias.numpy()
    assert (bias[256:512] == 1).all() and (bias[:256] == 0).all() and (bias[512:] == 0).all()


@pytest.mark.parametrize("dropout", [False, True])
def test_lstm_equals_keras_cell_with_the_same_masks_and_its_gradients(dropout):
    rng = np.random.default_rng(0)
    cell = keras.layers.LSTMCell(6, dropout=0.3, recurrent_dropout=0.4, seed=3)
    cell.build((None, 4))
    x, h, c = (tf.constant(rng.normal(size=shape), tf.float32) for shape in ((9, 3, 4), (3, 6), (3, 6)))
    keep = tf.constant(rng.random((9, 3, 1)) > 0.3, tf.float32)
    weight = tf.constant(rng.normal(size=(9, 3, 6)), tf.float32)
    masks = None, None
    if dropout:  # Keras draws one mask for each gate, and keeps them until it is told to draw others
        drawn = cell.get_dropout_mask(x[0]), cell.get_recurrent_dropout_mask(h)
        masks = tuple(tf.stack(mask, axis=1) for mask in drawn)
        assert [mask.shape for mask in masks] == [(3, 4, 4), (3, 4, 6)]
        assert all(len(np.unique(mask[:, gate])) == 2 for mask in masks for gate in range(4))

    def by_steps(step):
        hs, state = [], (h, c)
        for t in range(9):
            state = step(x[t], [part * keep[t] for part in state])
            hs.append(state[0])
        return tf.stack(hs)

    results = []
    for unroll in (
        lambda: by_steps(lambda x, state: cell(x, state, training=dropout)[1]),
        lambda: by_steps(lambda x, state: lstm.step(cell, x, *state, masks)),
        lambda: lstm.unroll(cell, x, h, c, keep, masks)[0],
    ):
        with tf.GradientTape() as tape:
            hs = unroll()
            loss = tf.reduce_sum(hs * weight)
        results.append([hs, *tape.gradient(loss, cell.trainable_variables)])
    for expected, stepped, unrolled in zip(*results, strict=True):
        np.testing.assert_allclose(stepped, expected, atol=1e-5)
        np.testing.assert_allclose(unrolled, expected, atol=1e-5)


def test_a_dropout_mask_is_0_or_scaled_to_a_mean_of_1():
    uniform = np.float32([0, 0.19, 0.2, 0.99])
    for where in (np.where, tf.where):
        np.testing.assert_allclose(dropout_mask(uniform, 0.2, where), [0, 0, 1.25, 1.25])
    mask = dropout_mask(np.random.default_rng(0).random(100_000, np.float32), 0.05)
    assert mask.dtype == np.float32
    assert np.mean(mask == 0) == pytest.approx(0.05, abs=0.003) and mask.mean() == pytest.approx(1, abs=0.003)


def test_m_drops_z_and_h_but_not_the_action_nor_the_state_that_c_sees():
    model, rng = make_rnn(small("doom")), np.random.default_rng(0)
    z, other, action, restart = (rng.normal(size=(2, n)).astype(np.float32) for n in (64, 64, 1, 1))
    state = rng.normal(size=(2, 2, 16)).astype(np.float32)
    nothing = np.zeros((2, 4, 64 + 16), np.float32)
    restart[:] = 0
    dropped = model.step(z, action, restart, state, nothing)
    h, c = state
    np.testing.assert_array_equal(dropped[0], model.step(other, action, restart, (-h, c), nothing)[0])
    np.testing.assert_allclose(dropped[0], model.step(0 * z, action, restart, (0 * h, c))[0], atol=1e-6)
    assert not np.allclose(dropped[0], model.step(z, -action, restart, state, nothing)[0], atol=1e-3)
    all_kept = model.step(z, action, restart, state, nothing + 1)
    np.testing.assert_allclose(all_kept, model.step(z, action, restart, state), atol=1e-6)


def test_keras_layer_for_a_gpu_is_the_same_lstm_with_the_same_gradients(monkeypatch):
    """What CarRacing's M runs where there is a GPU, here on the CPU; Doom's, whose states are zeroed, keeps its own."""
    rng = np.random.default_rng(0)
    z, action = (tf.constant(rng.normal(size=(7, 3, n)), tf.float32) for n in (32, 3))
    restart = tf.zeros((7, 3, 1))
    state = tuple(tf.constant(rng.normal(size=(3, 256)), tf.float32) for _ in range(2))
    weight = tf.constant(rng.normal(size=(7, 3, 480)), tf.float32)
    results, weights = [], None
    for gpus in ([], ["GPU"]):
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None, gpus=gpus: gpus)
        model = make_rnn(tasks.preset("carracing", "paper"))
        assert (model.layer is not None) == bool(gpus) and model.count_params() == 422_368
        weights = weights or model.get_weights()
        model.set_weights(weights)
        with tf.GradientTape() as tape:
            output, after = tf.function(model.unroll)(z, action, restart, state)
            loss = tf.reduce_sum(output * weight)
        results.append([output, *after, *tape.gradient(loss, model.trainable_variables)])
    for ours, keras_layer in zip(*results, strict=True):
        np.testing.assert_allclose(ours, keras_layer, atol=1e-4)
    assert make_rnn(tasks.preset("doom", "smoke")).layer is None


def numpy_loss(z, logmix, mean, logstd):
    """-mean log sum_k pi_k N(z; mean_k, std_k), written out in double precision."""
    z, logmix, mean, logstd = (np.asarray(a, np.float64) for a in (z, logmix, mean, logstd))
    top = logmix.max(axis=-1, keepdims=True)
    logmix = logmix - top - np.log(np.exp(logmix - top).sum(axis=-1, keepdims=True))
    terms = logmix - 0.5 * np.log(2 * np.pi) - logstd - 0.5 * ((z[..., None] - mean) / np.exp(logstd)) ** 2
    top = terms.max(axis=-1, keepdims=True)
    return -np.mean(top[..., 0] + np.log(np.exp(terms - top).sum(axis=-1)))


@pytest.mark.parametrize("extreme", [1, 80])
def test_mixture_loss_at_extreme_logits(extreme):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4, 7, 32)).astype(np.float32)
    logmix = (extreme * rng.normal(size=(4, 7, 32, 5))).astype(np.float32)
    mean, logstd = (rng.normal(size=(4, 7, 32, 5)).astype(np.float32) for _ in range(2))
    found = float(mdn.loss(z, logmix, mean, logstd))
    assert found == pytest.approx(numpy_loss(z, logmix, mean, logstd), rel=1e-5)


def test_output_is_split_into_logmix_mean_logstd_for_each_dimension():
    output = np.arange(2 * 15, dtype=np.float32)[None]
    logmix, mean, logstd = mdn.split(output, 2, 5)
    assert logmix[0, 1].numpy().tolist() == [15, 16, 17, 18, 19]
    assert mean[0, 0].numpy().tolist() == [5, 6, 7, 8, 9]
    assert logstd[0, 1].numpy().tolist() == [25, 26, 27, 28, 29]


def test_samples_follow_the_mixture_and_the_temperature():
    """Two far components of weight 0.2 and 0.8; at tau 0.5 the odds are squared and the spread falls by sqrt."""
    rng = np.random.default_rng(0)
    shape = (200_000, 1)
    logmix = np.broadcast_to(np.log(np.float32([0.2, 0.8])), (*shape, 2))
    mean = np.broadcast_to(np.float32([-10, 10]), (*shape, 2))
    logstd = np.broadcast_to(np.log(np.float32([1, 2])), (*shape, 2))
    for tau, odds in ((1.0, 0.25), (0.5, 0.0625)):
        uniform, noise = rng.random(shape, np.float32), rng.standard_normal(shape, np.float32)
        z = mdn.sample(logmix, mean, logstd, tau, uniform, noise).numpy()
        low, high = z[z < 0], z[z > 0]
        assert len(low) / len(high) == pytest.approx(odds, rel=0.03)
        assert high.std() == pytest.approx(2 * np.sqrt(tau), rel=0.02)
    exact = mdn.mixture(logmix[0], mean[0], logstd[0])
    assert float(exact.mean()[0]) == pytest.approx(0.8 * 10 - 0.2 * 10, rel=1e-5)


@pytest.mark.parametrize("heads", ["none", "reward", "end", "end+reward"])
def test_an_episode_is_unrolled_as_if_none_came_before_it(heads):
    config = tasks.replace(small("gymnasium:CartPole-v1"), heads=heads, play_in="real")
    model, rng = make_rnn(config), np.random.default_rng(0)
    z, action = (rng.normal(size=(9, 3, n)).astype(np.float32) for n in (config.z_size, model.action_size))
    restart = np.zeros((9, 3, 1), np.float32)
    restart[[0, 4]] = 1
    zeros, dirty = tf.zeros((2, 3, 16)), rng.normal(size=(2, 3, 16)).astype(np.float32)
    joined, state = model.unroll(*map(tf.constant, (z, action, restart)), zeros)
    alone, state_alone = model.unroll(*(tf.constant(part[4:]) for part in (z, action, restart)), zeros)
    np.testing.assert_allclose(joined[4:], alone, atol=1e-6)
    np.testing.assert_allclose(state, state_alone, atol=1e-6)
    clean = model.step(z[4], action[4], restart[4], zeros)
    np.testing.assert_allclose(model.step(z[4], action[4], restart[4], dirty), clean, atol=1e-6)
    assert not np.allclose(model.step(z[4], action[4], 0 * restart[4], dirty), clean, atol=1e-3)


@pytest.mark.parametrize(
    ("task", "heads", "dropout"),
    [("carracing", None, 0.0), ("carracing", None, 0.05), ("doom", None, 0.05), ("gymnasium:CartPole-v1", "none", 0.0)],
)
def test_training_lowers_the_loss(task, heads, dropout):
    config = small(task)
    config = tasks.replace(config, heads=heads or config.heads, play_in="real", rnn_dropout=dropout)
    kind = Streams if tasks.get(task).stops_at_end else Windows
    batches = kind(make_series(config, [20, 30, 40, 50, 60]), config.rnn_batch, config.rnn_length, seed=0)
    keras.utils.set_random_seed(0)
    model = make_rnn(config)
    state = [tf.Variable(tf.zeros((4, 16)), trainable=False) for _ in range(2)]
    optimizer = make_optimizer(1e-3, model.trainable_variables)
    step = make_step(model, optimizer, state, config)
    batch = next(batches(0))
    values = [float(step(tf.constant(0, tf.int64), *batch)["loss"]) for _ in range(5)]
    assert values[4] < values[0]
    assert not (state[0].numpy() == 0).all()  # the state is carried


@pytest.mark.parametrize(("is_first", "rate"), [(True, 0.0), (False, 0.0), (False, 0.3)])
def test_a_step_s_targets_are_the_frames_that_come_next_from_the_state_before(is_first, rate):
    """Its losses are those of M unrolled over all frames but the last, against all but the first. With dropout each of
    the 4 sequences has masks of its own, drawn from the step's number alone."""
    config = tasks.replace(small("doom"), heads="end+reward", rnn_dropout=rate)
    rng, model = np.random.default_rng(3), make_rnn(config)
    shape = 13, 4
    mu, action = (rng.normal(size=(*shape, n)).astype(np.float32) for n in (config.z_size, model.action_size))
    restart, end, valid = (rng.integers(0, 2, (*shape, 1)).astype(np.float32) for _ in range(3))
    reward = rng.normal(size=(*shape, 1)).astype(np.float32)
    before = rng.normal(size=(2, 4, 16)).astype(np.float32)
    state = [tf.Variable(part, trainable=False) for part in before]
    began = before * (not is_first)
    uniform = tf.random.stateless_uniform((4, 4, config.z_size + 16), [seeds.key(config.seed, "dropout of M"), 5])
    masks = dropout_mask(uniform.numpy(), rate) if rate else None
    output, after = model.unroll(mu[:-1], action[:-1], restart[:-1], began, masks)
    expected = model.losses(output, mu[1:], end[:-1], reward[:-1], valid[:-1])
    expected = {name: float(value) for name, value in expected.items()}
    step = make_step(model, make_optimizer(1e-3, model.trainable_variables), state, config)
    exact = np.full_like(mu, -40)  # no noise on z
    found = step(tf.constant(5, tf.int64), tf.constant(is_first), mu, exact, action, restart, end, reward, valid)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(state, after, atol=1e-5)


def test_rate_falls_as_in_the_release():
    rate = Rate(1e-3, 1e-5, 0.99999)
    assert float(rate(0)) == pytest.approx(1e-3)
    assert float(rate(24_400)) == pytest.approx((1e-3 - 1e-5) * 0.99999**24_400 + 1e-5, rel=1e-3)
