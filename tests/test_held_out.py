"""V's and M's errors on held-out episodes."""

import dataclasses

import numpy as np
import pytest
from conftest import run_script
from small_play import Alone

from vae.data import episode_length, episodes, read_episode, read_outcome
from world_models import seeds
from world_models.config import UserError
from world_models.runs import run_dir
from world_models.stages import held_out, recording
from world_models.world_model import load_rnn, load_vae, make_rnn


@pytest.fixture
def rnn(doom_run):
    """Doom's M with its first weights, and heads that predict nothing sure."""
    return make_rnn(run_dir.load(doom_run))


def test_m_outputs_are_those_of_training(doom_run, rnn):
    """Episodes of two lengths, each against the whole sequence at once."""
    config = run_dir.load(doom_run)
    rng = np.random.default_rng(4)
    z = [rng.normal(size=(length, config.z_size)).astype(np.float32) for length in (7, 12)]
    action = [rng.uniform(-1, 1, (len(rows), 1)).astype(np.float32) for rows in z]
    for (loss, logit, reward), rows, chosen in zip(held_out.m_outputs(rnn, z, action), z, action, strict=True):
        restart, state = np.zeros((len(rows), 1, 1), np.float32), np.zeros((1, config.rnn_units), np.float32)
        restart[0] = 1
        output, _, _ = rnn.unroll(rows[:, None], chosen[:, None], restart, state, state)
        np.testing.assert_allclose(logit, output[:, 0, 0], atol=1e-5)
        assert not reward.any()
        targets = (np.zeros_like(restart[1:]),) * 3
        expected = rnn.losses(output[:-1], rows[1:, None], *targets)["z_loss"]
        np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)


def test_deaths_and_false_positives_are_counted(doom_run, rnn, monkeypatch):
    config = run_dir.load(doom_run)
    paths = episodes(doom_run, config.episodes)
    lengths = [episode_length(path) for path in paths]
    deaths = sum(length < config.max_frames for length in lengths)
    assert deaths > 0
    monkeypatch.setattr(held_out, "load_rnn", lambda run, config: rnn)
    weights, bias = rnn.head.get_weights()
    for sure, share in ((1e4, 1.0), (-1e4, 0.0)):
        rnn.head.set_weights([weights, np.where(np.arange(len(bias)) == 0, sure, bias)])
        found = held_out.errors(doom_run, config, paths)
        assert (found["deaths"], found["recall"], found["false_positives"]) == (deaths, share, share)
        assert f"{share:.0%} of {deaths}" in held_out.in_words(found)


def test_recall_is_of_the_steps_that_end_and_false_positives_of_all_others():
    rows = [([0, 1, 0, 1], True), ([1, 0, 0], True), ([0, 0, 1, 0], False)]
    found = held_out.end_prediction([(np.array(predicted, bool), ended) for predicted, ended in rows])
    assert found == pytest.approx({"deaths": 2, "recall": 1 / 2, "false_positives": 3 / 9})
    assert held_out.end_prediction([(np.array([False, True]), False)]) == {}


def test_v_s_error_is_the_squared_error_of_what_it_decodes(car_run):
    vae = load_vae(car_run, run_dir.load(car_run))
    obs, _ = read_episode(episodes(car_run, 4)[0])
    mu, _ = vae.encode(obs)
    expected = ((obs / 255 - vae.decode(mu).numpy()) ** 2).sum(axis=(1, 2, 3))[:: held_out.EVERY]
    np.testing.assert_allclose(held_out.v_errors(vae, obs, mu), expected, rtol=1e-4)
    assert len(held_out.v_errors(vae, obs[:5], mu[:5])) == 2
    assert held_out.decoder(vae).experimental_get_tracing_count() == 1  # of all sizes


def test_the_error_on_pixels_that_matter_is_that_under_the_mask(car_run, tmp_path):
    config = run_dir.load(car_run)
    path, vae = tmp_path / "000000.npz", load_vae(car_run, config)
    obs, action = read_episode(episodes(car_run, 4)[0])
    mask = np.zeros(obs.shape[:3], np.uint8)
    mask[:, 10:30, :20] = 255
    np.savez(path, obs=obs, action=action, mask=mask)
    found = held_out.errors(car_run, config, [path])
    mu, _ = vae.encode(obs)
    expected = ((obs / 255 - vae.decode(mu).numpy()) ** 2)[:: held_out.EVERY, 10:30, :20].sum(axis=(1, 2, 3)).mean()
    assert found["v_error_masked"] == pytest.approx(expected, rel=1e-4)
    assert found["v_error_masked"] < found["v_error"]
    assert f"on pixels that matter {expected:.1f}" in held_out.in_words(found)
    np.savez(path, obs=obs, action=action, mask=mask[1:])
    with pytest.raises(UserError, match="not a complete episode"):
        held_out.errors(car_run, config, [path])


def test_held_out_episodes_have_seeds_that_no_recording_has(copied, monkeypatch):
    run, config = copied
    plans = []
    monkeypatch.setattr(recording, "play_and_write", lambda *arguments: plans.append(arguments[4]))
    recording.extract_held_out(Alone(), run, config, 3)
    recorded = seeds.episode_seeds(config.seed, "record", 0, 1000 * recording.ATTEMPTS)  # of a thousand episodes
    assert len(set(plans[0])) == 3 and not set(plans[0]) & set(recorded)


def test_what_it_cannot_measure_is_one_line(copied, tmp_path):
    run, config = copied
    run_dir.save(dataclasses.replace(config, view="v3"), tmp_path / "other")
    for of, said in (((), "--held-out 48"), (("--of", tmp_path / "other"), "a run of view v3;")):
        done = run_script("tools.held_out", "--run", run, *of, check=False)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_a_model_without_a_head_for_the_end_has_no_recall(car_run):
    config = run_dir.load(car_run)
    found = held_out.errors(car_run, config, episodes(car_run, 4)[:2])
    assert (
        set(found) == {"v_error", "v_error_95", "v_error_median", "m_loss"} and np.isfinite(list(found.values())).all()
    )
    rnn, (obs, action) = load_rnn(car_run, config), read_episode(episodes(car_run, 4)[0])
    mu, _ = load_vae(car_run, config).encode(obs)
    loss, logit, reward = held_out.m_outputs(rnn, [mu.numpy()], [action])[0]
    assert loss.shape == (59,) and not logit.any() and not reward.any()


def test_rewards_are_compared_in_windows(car_run, monkeypatch):
    """An M that predicts a tenth more than each reward, but 0 for the first half of the episodes."""
    config = dataclasses.replace(run_dir.load(car_run), heads="end+reward")
    paths = episodes(car_run, 4)
    rewards = [read_outcome(path, 60, 60, False)[0] for path in paths]
    predicted = [1.1 * reward * (k >= 2) for k, reward in enumerate(rewards)]
    outputs = [(np.zeros(59), np.full(60, -1.0), row) for row in predicted]
    monkeypatch.setattr(held_out, "load_rnn", lambda run, config: make_rnn(config))
    monkeypatch.setattr(held_out, "m_outputs", lambda rnn, zs, actions: outputs)
    found = held_out.errors(car_run, config, paths)
    real, seen = (np.array([row[:50].sum() for row in rows]) for rows in (rewards, predicted))
    assert found["reward"] == pytest.approx(real.mean() / 50, rel=1e-5)
    assert found["reward_predicted"] == pytest.approx(seen.mean() / 50, rel=1e-5)
    assert found["reward_r2"] == pytest.approx(1 - ((real - seen) ** 2).mean() / real.var(), rel=1e-4)
    assert "R² of 50 steps" in held_out.in_words(found) and "recall" not in found
