"""V's and M's errors on held-out episodes."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import run_script
from small_run import add_agent, make_run

from world_models import seeds
from world_models.config import UserError
from world_models.mpi import Alone
from world_models.runs import episodes
from world_models.runs.run import Run
from world_models.stages import held_out, recording
from world_models.world_model import load_rnn, load_vae, make_rnn


@pytest.fixture
def rnn(doom_run):
    """Doom's M with its first weights."""
    return make_rnn(Run(doom_run).config)


def test_m_outputs_are_those_of_training(doom_run, rnn):
    """Episodes of two lengths, each against the whole sequence at once."""
    config = Run(doom_run).config
    rng = np.random.default_rng(4)
    z = [rng.normal(size=(length, config.z_size)).astype(np.float32) for length in (7, 12)]
    action = [rng.uniform(-1, 1, (len(rows), 1)).astype(np.float32) for rows in z]
    for rows, chosen in zip(z, action, strict=True):
        loss, logit, reward = held_out.m_outputs(rnn, rows, chosen)
        restart, state = np.zeros((len(rows), 1, 1), np.float32), np.zeros((1, config.rnn_units), np.float32)
        restart[0] = 1
        output, _ = rnn.unroll(rows[:, None], chosen[:, None], restart, (state, state))
        np.testing.assert_allclose(logit, output[:, 0, 0], atol=1e-5)
        assert not reward.any()
        targets = (np.zeros_like(restart[1:]),) * 3
        expected = rnn.losses(output[:-1], rows[1:, None], *targets)["z_loss"]
        np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)


def test_deaths_and_false_positives_are_counted(doom_run, rnn, monkeypatch):
    run = Run(doom_run)
    paths = episodes.complete(run)
    lengths = [episodes.length_of(path) for path in paths]
    deaths = sum(length < run.config.max_frames for length in lengths)
    assert deaths > 0
    monkeypatch.setattr(held_out, "load_rnn", lambda run: rnn)
    weights, bias = rnn.head.get_weights()
    for sure, share in ((1e4, 1.0), (-1e4, 0.0)):
        rnn.head.set_weights([weights, np.where(np.arange(len(bias)) == 0, sure, bias)])
        found = held_out.errors(run, paths)
        assert (found["deaths"], found["recall"], found["false_positives"]) == (deaths, share, share)
        assert f"{share:.0%} of {deaths}" in held_out.format_errors(found)


def test_recall_is_of_the_steps_that_end_and_false_positives_of_all_others():
    rows = [([0, 1, 0, 1], True), ([1, 0, 0], True), ([0, 0, 1, 0], False)]
    found = held_out.end_prediction([(np.array(predicted, bool), ended) for predicted, ended in rows])
    assert found == pytest.approx({"deaths": 2, "recall": 1 / 2, "false_positives": 3 / 9})
    assert held_out.end_prediction([(np.array([False, True]), False)]) == {}


def test_v_s_error_is_the_squared_error_of_its_reconstruction(car_run):
    run = Run(car_run)
    vae = load_vae(run)
    obs = episodes.read(episodes.complete(run)[0]).obs
    mu, _ = vae.encode(obs)
    expected = ((obs / 255 - vae.decode(mu).numpy()) ** 2).sum(axis=(1, 2, 3))[:: held_out.EVERY]
    np.testing.assert_allclose(held_out.v_errors(vae, obs, mu), expected, rtol=1e-4)
    assert len(held_out.v_errors(vae, obs[:5], mu[:5])) == 2
    assert held_out.compiled(vae.decode).experimental_get_tracing_count() <= 2  # for all sizes


def test_held_out_episodes_are_played_on_other_seeds_than_recorded_ones(tmp_path):
    """They are written with the digests of their agent, V and M; those of an earlier agent are recorded again."""
    run = make_run(tmp_path / "run", lanes=2)
    add_agent(run)
    recording.extract_held_out(Alone(), run, 2)
    first = held_out.held_out_episodes(run)
    assert [path.name for path in first] == ["000000.npz", "000001.npz"]
    frames = [episodes.read(path).obs for path in first]
    assert np.isfinite(list(held_out.errors(run, first).values())).all()
    recorded = seeds.episode_seeds(run.config.seed, "record", 0, 1000 * recording.ATTEMPTS)
    reserved = seeds.episode_seeds(run.config.seed, "record", seeds.RANGE // 2, 1000)
    assert not set(recorded) & set(reserved)
    add_agent(run, np.full(len(json.loads((run / "controller/best.json").read_text())["parameters"]), 0.1))
    with pytest.raises(UserError, match="000000"):
        held_out.held_out_episodes(run)
    recording.extract_held_out(Alone(), run, 2)
    again = [episodes.read(path).obs for path in held_out.held_out_episodes(run)]
    assert all((one[0] == frame[0]).all() for one, frame in zip(again, frames, strict=True))  # the same tracks
    assert any((one != frame).any() for one, frame in zip(again, frames, strict=True))


def test_a_run_without_held_out_episodes_is_one_line(small_run):
    done = run_script("tools.held_out", "--run", small_run, check=False)
    assert done.returncode == 2 and "--held-out" in done.stderr and done.stderr.count("\n") == 1


def test_a_model_without_a_head_for_the_end_has_no_recall(car_run):
    run = Run(car_run)
    paths = episodes.complete(run)
    found = held_out.errors(run, paths[:2])
    assert set(found) == {"v_error", "v_error_95", "v_error_median", "m_loss"}
    assert np.isfinite(list(found.values())).all()
    rnn, (obs, action, *_) = load_rnn(run), episodes.read(paths[0])
    mu, _ = load_vae(run).encode(obs)
    loss, logit, reward = held_out.m_outputs(rnn, mu.numpy(), action)
    assert loss.shape == (59,) and not logit.any() and not reward.any()


def test_rewards_are_compared_in_windows(car_run, monkeypatch):
    """This M predicts a tenth more than each reward, and 0 for the first half of the episodes."""
    run = Run(car_run, dataclasses.replace(Run(car_run).config, heads="end+reward"))
    paths = episodes.complete(run)
    rewards = [episodes.read(path).reward for path in paths]
    predicted = [1.1 * reward * (k >= 2) for k, reward in enumerate(rewards)]
    outputs = iter([(np.zeros(59), np.full(60, -1.0), row) for row in predicted])
    monkeypatch.setattr(held_out, "load_rnn", lambda run: make_rnn(run.config))
    monkeypatch.setattr(held_out, "m_outputs", lambda rnn, z, action: next(outputs))
    found = held_out.errors(run, paths)
    real, seen = (np.array([row[:50].sum() for row in rows]) for rows in (rewards, predicted))
    assert found["reward"] == pytest.approx(real.mean() / 50, rel=1e-5)
    assert found["reward_predicted"] == pytest.approx(seen.mean() / 50, rel=1e-5)
    assert found["reward_r2"] == pytest.approx(1 - ((real - seen) ** 2).mean() / real.var(), rel=1e-4)
    assert "R² of 50 steps" in held_out.format_errors(found) and "recall" not in found
