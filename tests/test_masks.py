"""Masks of foreground pixels: of both games, recorded, and in V's weighted error."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, run_script

from vae.data import Frames, read_frames
from vae.model import sample
from vae.train import make_step
from world_models import tasks
from world_models.config import UserError
from world_models.environments import make_env
from world_models.runs import episodes
from world_models.runs.run import Run
from world_models.training import make_optimizer
from world_models.world_model import make_vae


def masked(task: str, **changes):
    return tasks.replace(tasks.preset(task, "smoke"), vae_weight=4.0, **changes)


@pytest.mark.parametrize("view", ["v0", "v3"])
def test_carracing_s_mask_is_its_road_and_car(view):
    env, plain = make_env(masked("carracing", view=view)), make_env(tasks.preset("carracing", "smoke"))
    plain.reset(seed=2)
    assert not plain.mask.any()
    env.reset(seed=2)
    for step in range(70):  # until the picture has zoomed in
        frame, *_ = env.step(np.float32([0.2 * (step % 3 - 1), 0.3, 0]))
    frame = frame.astype(int)
    green = 0.5 * (frame[..., 0] + frame[..., 2]) + 30 < frame[..., 1]
    assert 0.05 < (env.mask == 255).mean() < 0.8 and (env.mask == 0).mean() > 0.05
    assert not green[env.mask == 255].any() and green[env.mask == 0].all()


def test_doom_s_mask_is_what_moves():
    env, plain = make_env(masked("doom")), make_env(tasks.preset("doom", "smoke"))
    frame, _ = env.reset(seed=1)
    same, _ = plain.reset(seed=1)
    shares = []
    for _ in range(120):
        np.testing.assert_array_equal(frame, same)  # the labels change no picture
        shares.append((env.mask > 127).mean())
        frame, _, terminated, *_ = env.step(np.float32([0]))
        same, *_ = plain.step(np.float32([0]))
        if terminated:
            break
    assert not plain.mask.any() and 0 < max(shares) < 0.3
    env.close(), plain.close()


def test_v_weighs_the_error_of_masked_pixels():
    config = dataclasses.replace(masked("carracing"), vae_batch=4)
    vae = make_vae(config)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 64, 64, 4)).astype(np.uint8)
    noise = tf.random.stateless_normal((4, config.z_size), [config.seed, 0])
    shown = vae.decode(sample(*vae.encode(frames[..., :3]), noise)).numpy()
    error, mask = (frames[..., :3] / 255 - shown) ** 2, frames[..., 3:] / 255
    step = make_step(vae, make_optimizer(1e-4, vae.trainable_variables), config)
    losses = step(tf.constant(0, tf.int64), frames)
    expected = {"r_loss": error * (1 + 3 * mask), "plain_r_loss": error, "masked_r_loss": error * mask}
    for name, pixels in expected.items():
        assert float(losses[name]) == pytest.approx(pixels.sum() / 4, rel=1e-4)


def test_masks_are_recorded_and_trained_with(tmp_path):
    run = tmp_path / "car"
    flags = ["--task", "carracing", "--preset", "smoke", *SMALL["carracing"].split(), "--vae-weight", "3"]
    run_script("extract.py", "--run", run, *flags)
    paths = episodes.complete(Run(run))
    frames = read_frames(paths[0], True)
    assert frames.shape == (60, 64, 64, 4) and 0.05 < frames[..., 3].mean() / 255 < 0.9
    np.testing.assert_array_equal(frames[..., :3], episodes.read(paths[0])[0])
    assert next(Frames(paths, 60, 0, masked=True).epoch(0)).shape == (60, 64, 64, 4)
    run_script("train_vae.py", "--run", run)
    assert "masked_r_loss" in (run / "metrics.jsonl").read_text(encoding="utf-8")
    with np.load(paths[0]) as file:
        np.savez_compressed(paths[0], **{name: file[name] for name in file.files if name != "mask"})
    with pytest.raises(UserError, match="has no mask for --vae-weight"):
        read_frames(paths[0], True)


def test_a_task_without_masks_is_refused():
    with pytest.raises(UserError, match="which pixels"):
        masked("gymnasium:Pendulum-v1")
