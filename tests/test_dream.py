"""The dream: its rules, its batch against its single environment, and Doom's stages from end to end."""

import json

import gymnasium as gym
import numpy as np
import pytest
from conftest import run_script
from gymnasium.utils.env_checker import check_env

import config as configs
from common import mpi, run_dir
from config import UserError
from controller import rollout
from controller.policy import Controller
from controller.rollout import DreamLanes, play
from doom_rnn.death_prediction import death_prediction, restart_logits
from doom_rnn.dream import DreamEnv, Randomness
from vae.data import episode_length, episodes
from world_model import WorldModel, load_rnn


def dream_alone(env: DreamEnv, params: np.ndarray, seed: int) -> tuple[int, np.ndarray]:
    """(steps, observations) of one dream in the single environment, played by the linear controller."""
    config = env.config
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    while True:
        z, c, h = np.split(observation[None], [config.z_size, config.z_size + config.rnn_units], axis=1)
        action = Controller.of(config).act(params[None], z, c, h)
        observation, reward, terminated, truncated, _ = env.step(action[0])
        assert reward == 1.0
        seen.append(observation)
        if terminated or truncated:
            return len(seen) - 1, np.stack(seen)


@pytest.fixture(scope="module")
def mortal(doom_run):
    """(config, M) whose dreams end: the small run's M hardly predicts death, so its logit is raised."""
    config = run_dir.load(doom_run)
    rnn = load_rnn(doom_run, config)
    weights, bias = rnn.head.get_weights()
    rng = np.random.default_rng(0)
    weights[:, 0] = rng.normal(size=len(weights)) * 2
    bias[0] = -1.5
    rnn.head.set_weights([weights, bias])
    return config, rnn


def test_a_lane_of_the_batch_equals_the_single_environment(doom_run, mortal, monkeypatch):
    config, rnn = mortal
    env = gym.make("doom_rnn:WorldModels/DoomRNN-v0", run=doom_run, temperature=config.temperature).unwrapped
    env.model.rnn.set_weights(rnn.get_weights())
    params = np.random.default_rng(1).normal(size=(9, Controller.of(config).num_params)) * 0.3
    seeds = [100 + k for k in range(9)]
    # Nine dreams in four lanes: some take over lanes of others that have ended.
    arguments = (config, WorldModel(None, rnn), doom_run / "initial_z.npz", 4)
    lanes = DreamLanes(*arguments)
    results = play(lanes, mpi.Jobs(mpi.world(), 9), params, seeds)
    lengths = [results[k][1] for k in range(9)]
    assert lengths == [dream_alone(env, params[k], seeds[k])[0] for k in range(9)]
    assert all(results[k][0] == lengths[k] for k in range(9))
    assert len(set(lengths)) > 2 and min(lengths) < config.max_frames

    # And step by step, in segments of one.
    monkeypatch.setattr(rollout, "SEGMENT", 1)
    lanes = DreamLanes(*arguments)
    longest = int(np.argmax(lengths))
    lanes.start(2, params[longest], seeds[longest])
    _, seen = dream_alone(env, params[longest], seeds[longest])
    assert len(seen) > 10
    for observation in seen[1:]:
        lanes.advance()
        state = np.concatenate([lanes.state[name][2] for name in ("z", "c", "h")])
        np.testing.assert_allclose(state, observation, atol=1e-4)


@pytest.mark.parametrize("name", ["DoomRNN-v0", "CarRacingDream-v0"])
def test_passes_gymnasiums_checks(name, doom_run, car_run):
    run = doom_run if name == "DoomRNN-v0" else car_run
    env = gym.make(f"doom_rnn:WorldModels/{name}", run=run, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=1, options={"temperature": 0.5})
    assert env.unwrapped.temperature == 0.5
    assert env.render().shape == (64, 64, 3) and env.render().std() > 0


def test_carracings_dream_has_no_reward(car_run):
    env = gym.make("doom_rnn:WorldModels/CarRacingDream-v0", run=car_run).unwrapped
    env.reset(seed=1)
    steps = [env.step(env.action_space.sample()) for _ in range(60)]
    assert all(reward == 0 and not terminated for _, reward, terminated, _, _ in steps)
    assert [truncated for *_, truncated, _ in steps] == [False] * 59 + [True]


def test_dreams_start_from_stored_frames():
    mu, logvar = np.arange(12, dtype=np.float32).reshape(4, 3) * 100, np.full((4, 3), -40, np.float32)
    firsts = {tuple(np.round(Randomness(seed).first(mu, logvar))) for seed in range(60)}
    assert firsts == {tuple(row) for row in mu}


def test_user_errors_are_named(doom_run, car_run, tmp_path):
    with pytest.raises(UserError, match="temperature: expected a number above 0, got 0"):
        DreamEnv(doom_run, temperature=0)
    with pytest.raises(UserError, match="is a run of carracing; this environment dreams of doom"):
        gym.make("doom_rnn:WorldModels/DoomRNN-v0", run=car_run)
    run_dir.open_run(tmp_path / "new", {"task": "doom", "preset": "smoke"})
    with pytest.raises(UserError, match=r"initial_z\.npz is missing; make it with: python train_rnn\.py"):
        DreamEnv(tmp_path / "new")
    wrong = tmp_path / "wrong"
    run_dir.open_run(wrong, {"task": "doom", "preset": "smoke"})
    for name in ("initial_z.npz", "rnn.weights.h5"):
        (wrong / name).write_bytes((car_run / name).read_bytes())
    with pytest.raises(UserError, match=r"initial_z\.npz holds mu \(4, 32\)"):
        DreamEnv(wrong)
    (wrong / "initial_z.npz").write_bytes((doom_run / "initial_z.npz").read_bytes())
    with pytest.raises(UserError, match=r"rnn\.weights\.h5 does not hold M of 512 units for doom"):
        DreamEnv(wrong)


def test_evolution_in_the_dream_and_tests_in_both(doom_run):
    """C evolved in the dream by two ranks, then scored there and in the real game."""
    run_script("train_controller.py", "--run", doom_run, ranks=2)
    for env in ("dream", "real"):
        run_script("evaluate.py", "--run", doom_run, "--env", env, "--episodes", "2", ranks=2)
    films = {path.name for path in (doom_run / "videos").iterdir()}
    assert films == {"doom-dream-1.15.mp4", "doom-first.mp4", "doom-worst.mp4"}
    rows = json.loads((doom_run / "results.json").read_text())["results"]
    assert [row["env"] for row in rows] == ["dream", "real"]
    assert all(row["temperature"] == 1.15 and row["mean"] == row["mean_steps"] for row in rows)
    assert configs.Config(**json.loads((doom_run / "config.json").read_text())).env == "dream"


def test_only_long_episodes_are_recorded(doom_run):
    config = run_dir.load(doom_run)
    assert config.min_frames == 100
    assert min(episode_length(path) for path in episodes(doom_run, config.episodes)) > 100


def test_evolution_in_the_real_environment(doom_run, tmp_path):
    run = tmp_path / "real"
    flags = ["--env", "real", "--generations", "1", "--eval-every", "1", "--rollouts", "1"]
    run_script("train_controller.py", "--run", run, "--from", doom_run, *flags, ranks=2)
    (line,) = (run / "controller" / "history.jsonl").read_text().splitlines()
    assert 50 < json.loads(line)["mean"] <= 150  # steps survived of at most 150


def test_a_row_of_temperatures(doom_run, tmp_path):
    run_script("train_controller.py", "--run", doom_run, "--temperatures", "0.5,1.15", "--test-episodes", "2", ranks=2)
    # 1.15 is the run's own.
    files = [doom_run / "temperature-0.5" / "results.json", doom_run / "results.json"]
    rows = [row for file in files for row in json.loads(file.read_text())["results"]]
    found = {(row["trained_temperature"], row["env"]) for row in rows}
    assert {(0.5, "dream"), (0.5, "real"), (1.15, "dream"), (1.15, "real")} <= found
    for run, tau in ((doom_run / "temperature-0.5", 0.5), (doom_run, 1.15)):
        config = json.loads((run / "config.json").read_text())
        assert config["temperature"] == tau and config["env"] == "dream"
        assert (run / "controller" / "best.json").exists()
    assert not (doom_run / "temperature-1.15").exists()
    assert (
        "trained at τ 0.5" in run_script("tools.report", doom_run).stdout + (doom_run / "report/report.md").read_text()
    )
    # Packed, each is still a run of its own, with the one V and M.
    run_script("train_controller.py", "--run", doom_run)
    run_script("tools.pack", "--run", doom_run, "--out", tmp_path / "doom")
    part = tmp_path / "doom" / "temperature-0.5"
    run_script("evaluate.py", "--run", part, "--env", "dream", "--episodes", "2", "--no-video")
    returns = [row["returns"] for row in rows if (row["trained_temperature"], row["env"]) == (0.5, "dream")]
    assert [row["returns"] for row in json.loads((part / "results.json").read_text())["results"]][-1:] == returns


def test_restart_logits_are_those_of_training(doom_run, mortal):
    """Episodes of two lengths, each against the whole sequence at once."""
    config, rnn = mortal
    rng = np.random.default_rng(4)
    z = [rng.normal(size=(length, config.z_size)).astype(np.float32) for length in (7, 12)]
    action = [rng.uniform(-1, 1, (len(rows), 1)).astype(np.float32) for rows in z]
    for found, rows, chosen in zip(restart_logits(rnn, z, action), z, action, strict=True):
        restart, state = np.zeros((len(rows), 1, 1), np.float32), np.zeros((1, config.rnn_units), np.float32)
        restart[0] = 1
        output, _, _ = rnn.unroll(rows[:, None], chosen[:, None], restart, state, state)
        np.testing.assert_allclose(found, output[:, 0, 0], atol=1e-5)


def test_death_prediction_counts_recall_and_false_positives(doom_run, mortal, monkeypatch):
    config, rnn = mortal
    lengths = [episode_length(path) for path in episodes(doom_run, config.episodes)]
    deaths, frames = sum(length < config.max_frames for length in lengths), sum(lengths) - len(lengths)
    assert deaths > 0
    monkeypatch.setattr("doom_rnn.death_prediction.load_rnn", lambda run, config: rnn)
    weights, bias = rnn.head.get_weights()
    for sure, predicted, positives in ((1e4, deaths, frames), (-1e4, 0, 0)):
        rnn.head.set_weights([weights, np.where(np.arange(len(bias)) == 0, sure, bias)])
        assert f"{predicted} of {deaths} " in (text := death_prediction(doom_run, doom_run))
        assert f"false positives: {positives} in {frames} frames" in text
    rnn.head.set_weights([weights, bias])


def test_death_prediction_needs_a_restart_head(car_run, doom_run):
    with pytest.raises(UserError, match="a run of task carracing, whose M predicts no deaths"):
        death_prediction(doom_run, car_run)
