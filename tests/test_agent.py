"""V, M and C in one compiled step."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from controller.lanes import make_agent
from controller.policy import Controller
from vae.model import VAE
from world_models import tasks, training
from world_models.config import UserError
from world_models.world_model import WorldModel, make_rnn, make_vae

LANES = 16  # on any processor so many are computed alike, wherever they stand
CONFIG = tasks.preset("carracing", "smoke")


def step(config, vae, rnn, order=None, is_first=0.0, state=0.3):
    """One step of LANES agents of fixed, different numbers, their lanes in `order`: (action, h, c)."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (LANES, 64, 64, 3)).astype(np.uint8)
    noise, params = (
        rng.normal(size=(LANES, config.z_size)),
        rng.normal(0, 0.3, (LANES, Controller.of(config).num_params)),
    )
    h, c = state * rng.normal(size=(2, LANES, config.rnn_units))
    push = np.zeros((LANES, 3))
    numbers = [x.astype(np.float32) for x in (noise, params, push, np.full((LANES, 1), is_first), h, c)]
    order = np.arange(LANES) if order is None else order
    agent = make_agent(config, WorldModel(vae, rnn))
    return [np.asarray(x) for x in agent(*(tf.constant(x[order]) for x in (frames, *numbers)))]


@pytest.fixture(scope="module")
def models():
    return make_vae(CONFIG), make_rnn(CONFIG)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_agents_numbers_do_not_depend_on_its_lane(dtype, models):
    order, config = np.random.default_rng(1).permutation(LANES), dataclasses.replace(CONFIG, dtype=dtype)
    vae = VAE(CONFIG.z_size, dtype)
    vae.set_weights(models[0].get_weights())
    for straight, shuffled in zip(step(config, vae, models[1]), step(config, vae, models[1], order), strict=True):
        np.testing.assert_array_equal(straight[order], shuffled)


def test_the_state_is_zeroed_at_an_episodes_first_step(models):
    for is_first, same in ((1.0, True), (0.0, False)):
        one, other = (step(CONFIG, *models, is_first=is_first, state=scale) for scale in (0.3, 0.6))
        assert all((a == b).all() == same for a, b in zip(one, other, strict=True))


def test_bfloat16_acts_nearly_as_float32_does(models):
    vae, rnn = models
    narrow = VAE(CONFIG.z_size, "bfloat16")
    narrow.set_weights(vae.get_weights())
    wide = step(CONFIG, vae, rnn)
    close = step(dataclasses.replace(CONFIG, dtype="bfloat16"), narrow, rnn)
    difference = max(np.abs(a - b).max() for a, b in zip(wide, close, strict=True))
    assert 0 < difference < 0.05


def test_a_rank_that_acts_hides_gpus_and_has_one_thread(monkeypatch):
    said = {}
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["GPU 0", "GPU 1"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: said.update({kind: devices}))
    for kind in ("intra", "inter"):
        name = f"set_{kind}_op_parallelism_threads"
        monkeypatch.setattr(tf.config.threading, name, lambda n, kind=kind: said.update({kind: n}))
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 0)
    training.use_one_core()
    assert said == {"GPU": [], "intra": 1, "inter": 1}

    def started(devices, kind):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", started)
    with pytest.raises(UserError, match="fixed before: Visible devices"):
        training.use_one_core()
