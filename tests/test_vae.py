"""V: its layers, its loss, its data."""

import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_run import new_run

from vae.data import Frames
from vae.layers import Down, Up
from vae.model import VAE, losses
from vae.train import initialize_output_bias, make_step
from world_models import tasks
from world_models.config import UserError
from world_models.runs import episodes
from world_models.runs.run import Run
from world_models.training import make_optimizer


@pytest.mark.parametrize(("z_size", "parameters"), [(32, 4_348_547), (64, 4_446_915)])
def test_sizes_are_as_published(z_size, parameters):
    model = VAE(z_size)
    mu, logvar = model.encode(np.zeros((3, 64, 64, 3), np.uint8))
    frames = model.decode(mu).numpy()
    assert model.count_params() == parameters and mu.shape == logvar.shape == (3, z_size)
    assert frames.shape == (3, 64, 64, 3) and frames.min() >= 0 and frames.max() <= 1


@pytest.mark.parametrize(
    ("ours", "plain", "size", "kernel"),
    [
        *((lambda _: Down(7), layers.Conv2D, size, 4) for size in (64, 31, 14, 6)),
        *((lambda k: Up(7, k), layers.Conv2DTranspose, *each) for each in ((1, 5), (5, 5), (13, 6), (30, 6), (13, 5))),
    ],
)
def test_layers_are_keras_convolutions_of_stride_2(ours, plain, size, kernel):
    x = keras.random.normal((2, size, size, 5), seed=1)
    ours, plain = ours(kernel), plain(7, kernel, strides=2, activation="relu")
    plain.build(x.shape)
    ours.build(x.shape)
    ours.set_weights([w + 0.1 for w in plain.get_weights()])
    plain.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x), plain(x), atol=1e-5)


def test_loss_by_hand():
    """One pixel a quarter off, another half; a KL above its floor, and one below."""
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    reconstruction = np.zeros((2, 64, 64, 3), np.float32)
    reconstruction[0, 0, 0, 0], reconstruction[1, 3, 4, 1] = 0.25, 0.5
    mu, logvar = np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32)
    mu[0] = 2.0  # KL = 4 x 2^2 / 2 = 8 for the first frame, 0 for the second, whose floor is 0.5 x 4
    r_loss, kl_loss = losses(frames, reconstruction, mu, logvar, 0.5)
    assert float(r_loss) == pytest.approx((0.0625 + 0.25) / 2)
    assert float(kl_loss) == pytest.approx((8 + 2) / 2)


def test_a_training_step_lowers_the_loss():
    config = tasks.preset("carracing", "smoke")
    keras.utils.set_random_seed(0)
    model = VAE(config.z_size)
    step = make_step(model, make_optimizer(config.vae_rate, model.trainable_variables), config)
    frames = np.random.default_rng(0).integers(0, 256, (config.vae_batch, 64, 64, 3)).astype(np.uint8)
    values = [float(step(tf.constant(0, tf.int64), frames)["vae_loss"]) for _ in range(4)]
    assert values[3] < values[0]


def test_v_starts_from_the_mean_colour_of_the_recorded_frames(tmp_path):
    """Red is that of every other frame. No finite bias draws a blue of 255."""
    path = tmp_path / "000000.npz"
    obs = np.zeros((4, 64, 64, 3), np.uint8)
    obs[::2, ..., 0], obs[..., 1], obs[..., 2] = 204, 51, 255
    rest = {"action": np.zeros((4, 1), np.float32), "reward": np.zeros(4, np.float32), "end": np.array(5)}
    np.savez_compressed(path, obs=obs, **rest)
    model = VAE(8)
    initialize_output_bias(model, [path], seed=0)
    drawn = tf.sigmoid(model.transposed[-1].bias).numpy()
    np.testing.assert_allclose(drawn, [0.4, 0.2, 0.99], atol=1e-5)


def write_episode(run: Run, index: int, length: int):
    """Writes an episode; the first two bytes of a frame are the episode's and the frame's number. Returns its path."""
    obs = np.zeros((length, 64, 64, 3), np.uint8)
    obs[:, 0, 0, 0], obs[:, 0, 0, 1] = index, np.arange(length)
    path = episodes.path_of(run, index)
    action, reward = np.zeros((length, 3), np.float32), np.zeros(length, np.float32)
    episodes.write(path, {"obs": obs, "action": action, "reward": reward, "end": np.array(length + 1)}, {})
    return path


def test_frames_visit_each_frame_once_an_epoch_and_resume_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr("vae.data.POOL", 60)
    run = new_run(tmp_path / "run")
    frames = Frames([write_episode(run, index, 20 + index) for index in range(9)], 10, seed=3)
    assert frames.steps(0) == 216 // 10

    def names(batches):
        return [[tuple(frame[0, 0, :2]) for frame in batch] for batch in batches]

    whole = names(frames.epoch(0))
    seen = [name for batch in whole for name in batch]
    assert len(whole) == frames.steps(0) and len(set(seen)) == len(seen) == 210
    assert whole != names(frames.epoch(1))
    for skip in range(frames.steps(0) + 1):
        assert names(frames.epoch(0, skip)) == whole[skip:]


def test_two_pools_are_held_and_no_more(tmp_path, monkeypatch):
    """The next pool is read while one is drawn from. Memory does not grow with the number of episodes."""
    monkeypatch.setattr("vae.data.POOL", 60)
    run, pools = new_run(tmp_path / "run"), []

    def pool(self, *args, read=Frames._pool):
        frames = read(self, *args)
        pools.append(weakref.ref(frames))
        return frames

    monkeypatch.setattr(Frames, "_pool", pool)
    batches = Frames([write_episode(run, k, 30) for k in range(12)], 10, seed=3).epoch(0)
    held = []
    while next(batches, None) is not None:
        held.append(sum(frames() is not None for frames in pools))
    assert len(pools) == 6 and max(held) <= 2


def test_a_broken_episode_is_named(tmp_path):
    path = write_episode(new_run(tmp_path / "run"), 0, 20)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"000000\.npz is not a complete episode .* expected obs uint8"):
        episodes.read(path)
    np.savez_compressed(path, obs=np.zeros((5, 32, 32, 3), np.uint8), action=np.zeros((5, 3)))
    with pytest.raises(UserError, match=r"found obs uint8 \(5, 32, 32, 3\)"):
        episodes.read(path)


def test_too_few_frames_for_a_batch_is_a_user_error(tmp_path):
    path = write_episode(new_run(tmp_path / "run"), 0, 20)
    with pytest.raises(UserError, match="20 frames are recorded, too few for one batch of 100"):
        Frames([path], 100, seed=0)
