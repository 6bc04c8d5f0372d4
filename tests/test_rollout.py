"""Episodes in lanes of real CarRacing: how they end, and what their return is then."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from small_play import Alone

from controller import rollout
from controller.evolution import score_mean
from controller.lanes import RealLanes, in_float32
from controller.policy import Controller
from world_models import tasks
from world_models.runs import run_dir
from world_models.training import save_weights
from world_models.world_model import WorldModel, make_rnn, make_vae

CONFIG = dataclasses.replace(tasks.preset("carracing", "smoke"), max_frames=150, lanes=2)
STILL, FORWARD = (0.0, -9.0, 9.0), (0.0, 0.5, -9.0)  # biases of steer, gas, brake, before C's tanh
SEEDS = [12, 17]


@pytest.fixture(scope="module")
def lanes():
    found = RealLanes(CONFIG, WorldModel(make_vae(CONFIG), make_rnn(CONFIG)), CONFIG.lanes)
    yield found
    found.close()


def play(lanes, biases, patience: int) -> tuple[list[float], list[int]]:
    """(returns, steps) of a car that does the same all along, on two tracks."""
    params = np.zeros((2, Controller.of(CONFIG).num_params))
    params[:, :3] = biases
    returns, steps = rollout.evaluate(Alone(), lanes, params, SEEDS, patience=patience)
    return list(returns), list(steps)


def test_a_lost_episode_ends_early_with_the_return_of_a_car_that_stands_still(lanes):
    whole, all_steps = play(lanes, STILL, 0)
    cut, steps = play(lanes, STILL, 20)
    assert all_steps == [150, 150] and all(20 <= n < 40 for n in steps)
    assert cut == pytest.approx(whole)


def test_an_episode_ends_so_many_frames_after_its_last_reward(lanes):
    """Straight on, and off the road: rewarded for a while, then no more."""
    _, steps = play(lanes, FORWARD, 20)
    _, patient = play(lanes, FORWARD, 40)
    _, whole = play(lanes, FORWARD, 0)
    assert whole == [150, 150]
    for short, long in zip(steps, patient, strict=True):
        assert 60 < short < 130 and long == short + 20
    # The same car, with its brakes on from where the short episode ends: the environment itself completes the return.
    env = lanes.envs[0]
    for seed, short, completed in zip(SEEDS, steps, play(lanes, FORWARD, 20)[0], strict=True):
        env.reset(seed=seed)
        drive = np.float32([0, (np.tanh(FORWARD[1]) + 1) / 2, 0])
        rewards = [env.step(drive)[1] for _ in range(short)]
        assert max(rewards[-20:]) < 0 < rewards[-21]
        assert completed == pytest.approx(sum(rewards) - 0.1 * (150 - short))


def test_a_scoring_is_never_cut(lanes):
    """An episode without `patience` follows one with it in the same lanes."""
    play(lanes, STILL, 20)
    assert play(lanes, STILL, 0)[1] == [150, 150]


def test_the_scoring_of_the_mean_has_no_patience(lanes, monkeypatch):
    """Of a search whose episodes have: 150 steps each of a car that stands still."""
    params = np.zeros(Controller.of(CONFIG).num_params)
    params[:3] = STILL
    played, evaluate = [], rollout.evaluate
    monkeypatch.setattr(rollout, "evaluate", lambda *a, **k: played.append(evaluate(*a, **k)) or played[-1])
    search = SimpleNamespace(agents=lambda: {"mean": params}, log_evaluation=lambda *_: None)
    score_mean(Alone(), lanes, dataclasses.replace(CONFIG, patience=20, eval_episodes=2), search, 1, "")
    assert list(played[0][1]) == [150, 150]


def test_scores_are_in_float32_whatever_the_agents_act_in(tmp_path):
    vae, rnn = make_vae(CONFIG), make_rnn(CONFIG)
    save_weights(vae, tmp_path / "vae.weights.h5")
    save_weights(rnn, tmp_path / "rnn.weights.h5")
    run_dir.save(CONFIG, tmp_path)
    params = np.random.default_rng(0).normal(size=(2, Controller.of(CONFIG).num_params))
    found = {}
    for dtype in ("float32", "bfloat16"):
        config = dataclasses.replace(CONFIG, dtype=dtype)
        lanes = RealLanes(config, WorldModel.load(tmp_path, config, dtype), CONFIG.lanes)
        for name, these in ((dtype, lanes), (f"scored, {dtype}", in_float32(lanes, tmp_path))):
            rollout.evaluate(Alone(), these, params, SEEDS)
            found[name] = these.h.numpy().tolist()  # at the end: returns differ with tiles, not with digits
        lanes.close()
    assert found["scored, float32"] == found["scored, bfloat16"] == found["float32"] != found["bfloat16"]
