"""M: its LSTM, its mixture, its losses, its batches; CarRacing's and Doom's."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import config as configs
import tasks
from common.training import make_optimizer
from config import UserError
from rnn import data, lstm, mdn
from rnn.data import LatentDataset, Windows, encode
from rnn.streams import Streams
from rnn.train import Rate, dream_starts, make_step
from world_model import make_rnn


@pytest.mark.parametrize(("task", "parameters"), [("carracing", 422_368), ("doom", 1_678_785)])
def test_parameters_are_as_many_as_published(task, parameters):
    assert make_rnn(tasks.preset(task, "paper")).count_params() == parameters


def test_forget_bias_is_one():
    bias = make_rnn(tasks.preset("carracing", "paper")).cell.bias.numpy()
    assert (bias[256:512] == 1).all() and (bias[:256] == 0).all() and (bias[512:] == 0).all()


def plain_unroll(cell, x, h, c, keep):
    """The same recurrence through Keras' own cell, for automatic differentiation."""
    hs = []
    for t in range(x.shape[0]):
        h, (_, c) = cell(x[t], [h * keep[t], c * keep[t]])
        hs.append(h)
    return tf.stack(hs)


def test_unrolled_lstm_equals_keras_cell_and_its_gradients():
    rng = np.random.default_rng(0)
    cell = keras.layers.LSTMCell(6)
    cell.build((None, 4))
    x = tf.constant(rng.normal(size=(9, 3, 4)), tf.float32)
    h, c = (tf.constant(rng.normal(size=(3, 6)), tf.float32) for _ in range(2))
    keep = tf.constant(rng.random((9, 3, 1)) > 0.3, tf.float32)
    weight = tf.constant(rng.normal(size=(9, 3, 6)), tf.float32)
    results = []
    for unroll in (lambda: lstm.unroll(cell, x, h, c, keep)[0], lambda: plain_unroll(cell, x, h, c, keep)):
        with tf.GradientTape() as tape:
            hs = unroll()
            loss = tf.reduce_sum(hs * weight)
        results.append([hs, *tape.gradient(loss, cell.trainable_variables)])
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)


def test_keras_layer_for_a_gpu_is_the_same_lstm_with_the_same_gradients(monkeypatch):
    """What CarRacing's M runs where there is a GPU, here on the CPU; Doom's, whose states are zeroed, keeps its own."""
    rng = np.random.default_rng(0)
    z, action = (tf.constant(rng.normal(size=(7, 3, n)), tf.float32) for n in (32, 3))
    restart = tf.zeros((7, 3, 1))
    h, c = (tf.constant(rng.normal(size=(3, 256)), tf.float32) for _ in range(2))
    weight = tf.constant(rng.normal(size=(7, 3, 480)), tf.float32)
    results, weights = [], None
    for gpus in ([], ["GPU"]):
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None, gpus=gpus: gpus)
        model = make_rnn(tasks.preset("carracing", "paper"))
        assert (model.layer is not None) == bool(gpus) and model.count_params() == 422_368
        weights = weights or model.get_weights()
        model.set_weights(weights)
        with tf.GradientTape() as tape:
            output, *state = tf.function(model.unroll)(z, action, restart, h, c)
            loss = tf.reduce_sum(output * weight)
        results.append([output, *state, *tape.gradient(loss, model.trainable_variables)])
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


def test_a_narrow_density_has_a_negative_loss():
    """One Gaussian of standard deviation 0.01 at its mean: log(0.01 sqrt(2 pi)) = -3.686."""
    zeros = np.zeros((1, 1, 5), np.float32)
    value = float(mdn.loss(np.zeros((1, 1), np.float32), zeros, zeros, zeros + np.log(0.01).astype(np.float32)))
    assert value == pytest.approx(np.log(0.01 * np.sqrt(2 * np.pi)), rel=1e-5)


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


def small(task: str) -> configs.Config:
    return configs.Config(**{**vars(tasks.preset(task, "smoke")), "rnn_units": 16, "rnn_length": 12, "rnn_batch": 4})


def make_series(config: configs.Config, lengths: list[int]) -> LatentDataset:
    rng = np.random.default_rng(0)
    total = sum(lengths)
    mu = rng.normal(size=(total, config.z_size)).astype(np.float16)
    action = rng.normal(size=(total, tasks.get(config.task).action_size)).astype(np.float32)
    ends = np.array(lengths) + (not tasks.get(config.task).stops_at_end)  # CarRacing's go on after the end
    return LatentDataset(mu, np.full_like(mu, -2), action, np.full(total, 0.5, np.float32), ends, np.array(lengths))


@pytest.mark.parametrize("heads", ["none", "reward", "end", "end+reward"])
def test_an_episode_is_unrolled_as_if_none_came_before_it(heads):
    config = tasks.replace(small("gymnasium:CartPole-v1"), heads=heads, env="real")
    model, rng = make_rnn(config), np.random.default_rng(0)
    z, action = (rng.normal(size=(9, 3, n)).astype(np.float32) for n in (config.z_size, model.action_size))
    restart = np.zeros((9, 3, 1), np.float32)
    restart[[0, 4]] = 1
    zeros = tf.zeros((3, 16))
    joined, h, c = model.unroll(*map(tf.constant, (z, action, restart)), zeros, zeros)
    alone, h_alone, c_alone = model.unroll(*(tf.constant(part[4:]) for part in (z, action, restart)), zeros, zeros)
    np.testing.assert_allclose(joined[4:], alone, atol=1e-6)
    np.testing.assert_allclose(c, c_alone, atol=1e-6)
    dirty = model.step(z[4], action[4], restart[4], *rng.normal(size=(2, 3, 16)).astype(np.float32))
    for value, clean in zip(dirty, model.step(z[4], action[4], restart[4], zeros, zeros), strict=True):
        np.testing.assert_allclose(value, clean, atol=1e-6)
    np.testing.assert_allclose(h, h_alone, atol=1e-6)


@pytest.mark.parametrize("task, heads", [("carracing", None), ("doom", None), ("gymnasium:CartPole-v1", "none")])
def test_training_lowers_the_loss(task, heads):
    config = small(task)
    config = tasks.replace(config, heads=heads or config.heads, env="real")
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
    model.scale_rewards(0.5)
    h = np.random.default_rng(0).normal(size=(4, config.rnn_units)).astype(np.float32)
    before = model.head(h).numpy(), model.reward(model.head(h)).numpy()
    model.scale_rewards(20.0)
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
def test_an_m_takes_over_another_s_weights_whatever_its_heads(heads, others):
    """The same z predicted, step by step; heads that both have predict the same too."""
    ours, theirs = (make_rnn(dataclasses.replace(small("carracing"), heads=name)) for name in (heads, others))
    for weight in theirs.weights:
        weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape))
    ours.take_over(theirs)
    rng = np.random.default_rng(0)
    z, action = rng.normal(size=(2, 32)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    h, c = rng.normal(size=(2, 2, 16)).astype(np.float32)
    outputs = [model.head(model.step(z, action, np.zeros((2, 1), np.float32), h, c)[0]) for model in (ours, theirs)]
    for found, expected in zip(ours.split(outputs[0]), theirs.split(outputs[1]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for name in ours.heads:
        method = "end_logit" if name == "end" else name
        expected = getattr(theirs, method)(outputs[1]) if name in theirs.heads else np.zeros((2, 1))
        np.testing.assert_allclose(getattr(ours, method)(outputs[0]), expected, rtol=1e-5, atol=1e-6)


def test_restart_zeroes_the_state():
    config = small("doom")
    model = make_rnn(config)
    z, action = np.ones((1, config.z_size), np.float32), np.ones((1, 1), np.float32)
    h, c = np.full((1, 16), 0.5, np.float32), np.full((1, 16), -0.5, np.float32)
    one = np.ones((1, 1), np.float32)
    with_state, without = model.step(z, action, one, h, c), model.step(z, action, one, 0 * h, 0 * c)
    np.testing.assert_array_equal(with_state[0], without[0])
    assert not np.array_equal(model.step(z, action, 0 * one, h, c)[0], without[0])


def test_streams_join_episodes_and_mark_their_first_frames():
    config = small("doom")
    series = make_series(config, [30, 20, 25, 40])
    streams = Streams(series, 2, 10, seed=0)
    index, restart = streams.order(0)
    assert index.shape == (2, 57) and len(np.unique(index)) == 114
    assert set(index[restart == 1]) <= set(series.starts) and restart.sum() >= 3
    batches = [next(streams(k)) for k in range(streams.pieces)]
    assert [batch[0] for batch in batches] == [True] + [False] * (streams.pieces - 1)
    # The last frame of a piece is the first of the next.
    np.testing.assert_array_equal(batches[0][1][-1], batches[1][1][0])
    # Going on from the middle gives the same batches.
    again = streams(0)
    for batch in batches:
        for ours, other in zip(next(again), batch, strict=True):
            np.testing.assert_array_equal(ours, other)


def test_windows_are_whole_episodes_when_as_long():
    config = small("carracing")
    series = make_series(config, [13, 13, 13, 13, 8])
    _, mu, _, action, restart, *_ = next(Windows(series, 4, 12, seed=0)(0))
    assert mu.shape == (13, 4, config.z_size) and action.shape == (13, 4, 3)
    firsts = {tuple(row) for row in series.mu[series.starts[:4]]}
    assert {tuple(row) for row in mu[0]} == firsts
    assert restart[0].all() and not restart[1:].any()


def test_dreams_that_start_anywhere_have_m_s_state_there():
    """Where z has no noise, M led through an episode up to the frame by hand has the stored state."""
    config = dataclasses.replace(small("carracing"), heads="end+reward", initial_frames=30)
    series = make_series(config, [12, 20, 7])
    series.logvar[:], series.ends = -40, np.array([5, 21, 8])
    model = make_rnn(config)
    found = dream_starts(model, series, config)
    assert {name: len(rows) for name, rows in found.items()} == dict.fromkeys(("mu", "logvar", "h", "c"), 30)
    places = set()
    for mu, stored in zip(found["mu"], found["h"], strict=True):
        frame = int(np.flatnonzero((series.mu == mu).all(axis=1))[0])
        places.add(frame)
        first = series.starts[series.starts <= frame][-1]
        h = c = np.zeros((1, config.rnn_units), np.float32)
        for t in range(first, frame):
            restart = np.full((1, 1), t == first, np.float32)
            h, c = model.step(series.mu[t][None].astype(np.float32), series.action[t][None], restart, h, c)
        np.testing.assert_allclose(stored, h[0], atol=1e-3)
    assert len(places) > 10 and not places & set(range(5, 12))  # none after an end


def test_rate_falls_as_in_the_release():
    rate = Rate(1e-3, 1e-5, 0.99999)
    assert float(rate(0)) == pytest.approx(1e-3)
    assert float(rate(24_400)) == pytest.approx((1e-3 - 1e-5) * 0.99999**24_400 + 1e-5, rel=1e-3)


def test_latents_are_memory_mapped_and_broken_files_named(tmp_path):
    config = small("carracing")
    series = make_series(config, [13, 20])
    series.write(tmp_path / "series.npz")
    read = LatentDataset.read(tmp_path / "series.npz", config.z_size, 2)
    for name in ("mu", "logvar", "action", "lengths"):
        assert isinstance(getattr(read, name), np.memmap)
        np.testing.assert_array_equal(getattr(read, name), getattr(series, name))
    with pytest.raises(UserError, match="holds z of 32 numbers, expected 64"):
        LatentDataset.read(tmp_path / "series.npz", 64, 2)
    with pytest.raises(UserError, match="holds 2 episodes, expected 6"):
        LatentDataset.read(tmp_path / "series.npz", config.z_size, 6)
    content = (tmp_path / "series.npz").read_bytes()
    (tmp_path / "series.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"series\.npz does not hold latents"):
        LatentDataset.read(tmp_path / "series.npz", config.z_size, 2)


def test_mirrored_episodes_follow_their_own(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (length, 64, 64, 3)).astype(np.uint8) for length in (3, 5)]
    actions = [rng.normal(size=(len(obs), 3)).astype(np.float32) for obs in frames]
    paths = [tmp_path / f"{k}.npz" for k in range(2)]
    for path, obs, action in zip(paths, frames, actions, strict=True):
        np.savez(path, obs=obs, action=action)

    def encoder(obs):  # z says how bright the first column is, and the last
        columns = obs[:, :, [0, -1]].mean(axis=(1, 3))
        return columns, -columns

    def outcome(path, frames):  # the first was recorded before rewards were kept
        return (None, frames + 1) if path == paths[0] else (np.arange(frames, dtype=np.float32), 4)

    monkeypatch.setattr(data, "PART", 1)
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "000001.npz").write_bytes(b"half a part")
    with pytest.raises(UserError, match=r"000001\.npz is broken"):
        encode(tmp_path, paths, encoder, iter, outcome, tasks.get("carracing").mirror)
    (tmp_path / "series" / "000001.npz").unlink()
    encode(tmp_path, paths, encoder, iter, outcome, tasks.get("carracing").mirror)
    series = LatentDataset.read(tmp_path / "series.npz", 2, 4)
    assert series.lengths.tolist() == [3, 3, 5, 5]
    for own, other in ((slice(0, 3), slice(3, 6)), (slice(6, 11), slice(11, 16))):
        np.testing.assert_array_equal(series.mu[other], series.mu[own][:, ::-1])
        np.testing.assert_array_equal(series.action[other], series.action[own] * [-1, 1, 1])
    np.testing.assert_array_equal(series.action[6:11], actions[1])
    assert series.ends.tolist() == [4, 4, 4, 4] and np.isnan(series.reward[:6]).all()
    np.testing.assert_array_equal(series.reward[6:].reshape(2, 5), [range(5)] * 2)
