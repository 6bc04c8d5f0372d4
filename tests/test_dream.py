"""The dream: its rules, its batch against its single environment, and Doom's stages from end to end."""

import dataclasses
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
from conftest import SMALL, run_script
from gymnasium.utils.env_checker import check_env
from small_play import play_alone

from controller.jobs import Jobs
from controller.lanes import DreamLanes
from controller.policy import Controller
from controller.rollout import play
from doom_rnn.dream import DreamEnv, Randomness, Starts
from vae.data import episode_length, episodes
from world_models import mpi
from world_models.config import UserError
from world_models.runs import run_dir
from world_models.stages.imagined import dreams_along
from world_models.training import save_weights
from world_models.world_model import WorldModel, load_rnn


@pytest.fixture(scope="module")
def mortal(doom_run, tmp_path_factory):
    """(folder, config, M) whose dreams end: the small run's M hardly predicts death, so its logit is raised."""
    config, run = run_dir.load(doom_run), tmp_path_factory.mktemp("mortal")
    for name in ("config.json", "initial_z.npz", "vae.weights.h5"):
        shutil.copy(doom_run / name, run / name)
    rnn = load_rnn(doom_run, config)
    weights, bias = rnn.head.get_weights()
    rng = np.random.default_rng(0)
    weights[:, 0] = rng.normal(size=len(weights)) * 2
    bias[0] = -1.5
    rnn.head.set_weights([weights, bias])
    save_weights(rnn, run / "rnn.weights.h5")
    return run, config, rnn


def test_environments_of_one_process_share_m_until_its_file_changes(mortal, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(mortal[0], run)
    one, other = DreamEnv(run), DreamEnv(run)
    assert one.dreams._compiled is other.dreams._compiled
    save_weights(mortal[2], run / "rnn.weights.h5")
    assert DreamEnv(run).dreams._compiled is not one.dreams._compiled


def test_a_lane_of_the_batch_equals_the_single_environment(mortal, monkeypatch):
    run, config, _ = mortal
    env = gym.make("doom_rnn:WorldModels/DoomRNN-v0", run=run, temperature=config.temperature).unwrapped
    params = np.random.default_rng(1).normal(size=(9, Controller.of(config).num_params)) * 0.3
    seeds = [100 + k for k in range(9)]
    # Nine dreams in four lanes: some take over lanes of others that have ended.
    arguments = (config, WorldModel.load_dream(run, config), Starts(run, config), 4)
    lanes = DreamLanes(*arguments)
    results = play(lanes, Jobs(mpi.world(), 9), params, seeds)
    lengths = [results[k][1] for k in range(9)]
    alone = [play_alone(env, config, params[k], seeds[k])[0] for k in range(9)]
    assert lengths == list(map(len, alone)) and {reward for rewards in alone for reward in rewards} == {1.0}
    assert all(results[k][0] == lengths[k] for k in range(9))
    assert len(set(lengths)) > 2 and min(lengths) < config.max_frames

    # And step by step, in segments of one.
    monkeypatch.setattr("controller.lanes.SEGMENT", 1)
    lanes = DreamLanes(*arguments)
    longest = int(np.argmax(lengths))
    lanes.start(2, params[longest], seeds[longest])
    _, seen = play_alone(env, config, params[longest], seeds[longest])
    assert len(seen) > 10
    for observation in seen[1:]:
        lanes.advance()
        state = np.concatenate([lanes.state[name][2] for name in ("z", "c", "h")])
        np.testing.assert_allclose(state, observation, atol=1e-4)


def test_a_seed_s_dream_has_the_same_dropout_in_every_kind_of_dream(mortal, monkeypatch, tmp_path):
    """In a single environment, a lane of the vector environment and a lane of the search: 20 steps of 3 dreams."""
    base, config, _ = mortal
    config = run_dir.open_run(tmp_path / "run", {"dream_dropout": 0.3}, base)
    run, seeds = tmp_path / "run", [7, 8, 7]
    params = np.random.default_rng(1).normal(size=(3, Controller.of(config).num_params)) * 0.3
    params[2] = params[0]
    monkeypatch.setattr("controller.lanes.SEGMENT", 1)
    lanes = DreamLanes(config, WorldModel.load_dream(run, config), Starts(run, config), 3)
    vector = gym.make_vec("doom_rnn:WorldModels/DoomRNN-v0", 3, run=run).unwrapped
    singles, plain = [DreamEnv(run) for _ in seeds], DreamEnv(base)
    seen = np.stack([env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)])
    np.testing.assert_array_equal(vector.reset(seed=seeds)[0], seen)
    np.testing.assert_array_equal(plain.reset(seed=7)[0], seen[0])  # the other streams are as they were
    for lane, seed in enumerate(seeds):
        lanes.start(lane, params[lane], seed)
    masks = lanes.dropout.copy()
    assert masks.shape == (3, 4, 64 + config.rnn_units) and set(np.unique(masks)) == {0, np.float32(1 / 0.7)}
    assert (masks[0] == masks[2]).all() and np.mean(masks[0] != masks[1]) > 0.3
    for _ in range(20):
        action = Controller.of(config).act(params, *np.split(seen, [64, 64 + config.rnn_units], axis=1))
        results = [env.step(one) for env, one in zip(singles, action, strict=True)]
        unlike = plain.step(action[0])[0]
        seen = np.stack([observation for observation, *_ in results])
        np.testing.assert_allclose(vector.step(action)[0], seen, atol=1e-4)
        lanes.advance()
        np.testing.assert_allclose(
            np.concatenate([lanes.state[name] for name in ("z", "c", "h")], axis=1), seen, atol=1e-4
        )
        np.testing.assert_array_equal(seen[0], seen[2])
        assert np.abs(unlike - seen[0]).max() > 0.01
        if any(terminated for _, _, terminated, *_ in results):
            break
    np.testing.assert_array_equal(lanes.dropout, masks)


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


def test_dreams_start_from_stored_frames(car_run, tmp_path):
    config = dataclasses.replace(run_dir.load(car_run), z_size=3)
    mu, logvar = np.arange(12, dtype=np.float32).reshape(4, 3) * 100, np.full((4, 3), -40, np.float32)
    np.savez(tmp_path / "initial_z.npz", mu=mu, logvar=logvar)
    starts = Starts(tmp_path, config)
    found = {tuple(np.round(Randomness(seed).first(starts))) for seed in range(60)}
    assert found == {tuple(row) for row in mu}


@pytest.fixture(scope="module")
def paying_run(tmp_path_factory):
    """A CarRacing run whose M predicts ends and rewards, for dreams of 30 steps."""
    run = tmp_path_factory.mktemp("paying") / "car"
    flags = [
        "--heads",
        "end+reward",
        "--env",
        "dream",
        "--dream-frames",
        "30",
        "--population",
        "6",
    ]
    small = ["--task", "carracing", "--preset", "smoke", *SMALL["carracing"].split(), *flags]
    run_script("extract.py", "--run", run, *small, ranks=2)
    for script in ("train_vae.py", "train_rnn.py"):
        run_script(script, "--run", run)
    return run


def test_carracing_evolves_in_a_dream_that_pays(paying_run):
    run_script("train_controller.py", "--run", paying_run)
    lines = [json.loads(line) for line in (paying_run / "controller" / "history.jsonl").read_text().splitlines()]
    assert all(0 < line["mean_steps"] <= 30 and np.isfinite(line["mean"]) and line["std"] > 0 for line in lines)
    # And the single environment earns what the batch does.
    config = run_dir.load(paying_run)
    env = DreamEnv(paying_run)
    params = np.random.default_rng(1).normal(size=(1, Controller.of(config).num_params))
    lanes = DreamLanes(config, WorldModel.load_dream(paying_run, config), Starts(paying_run, config), 4)
    [(total, steps)] = play(lanes, Jobs(mpi.world(), 1), params, [5]).values()
    rewards, _ = play_alone(env, config, params[0], 5)
    assert len(rewards) == steps and sum(rewards) == pytest.approx(total, abs=1e-3) and len(set(rewards)) > 1
    done = run_script("evaluate.py", "--run", paying_run, "--episodes", "2", "--no-video")
    assert "CarRacing, view v0" in done.stdout


def test_rewards_are_needed_to_learn_them(paying_run, tmp_path):
    run = shutil.copytree(paying_run, tmp_path / "run", ignore=shutil.ignore_patterns("controller"))
    for path in sorted((run / "record").iterdir())[:1]:
        with np.load(path) as file:
            np.savez_compressed(path, obs=file["obs"], action=file["action"])
    for name in ("series.npz", "rnn.weights.h5"):
        (run / name).unlink()
    done = run_script("train_rnn.py", "--run", run, check=False)
    assert done.returncode == 2 and "recorded before rewards were kept" in done.stderr


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
    with pytest.raises(UserError, match=r"initial_z\.npz holds .*\(4, 32\).*expected rows"):
        DreamEnv(wrong)
    (wrong / "initial_z.npz").write_bytes((doom_run / "initial_z.npz").read_bytes())
    env = DreamEnv(wrong)
    env.reset(seed=1)
    with pytest.raises(UserError, match=r"rnn\.weights\.h5 does not hold M of 512 units for doom"):
        env.step(np.zeros(1, np.float32))


def test_only_long_episodes_are_recorded(doom_run):
    config = run_dir.load(doom_run)
    assert config.min_frames == 100
    assert min(episode_length(path) for path in episodes(doom_run, config.episodes)) > 100


def test_evolution_in_the_real_environment(doom_run, tmp_path):
    run = tmp_path / "real"
    flags = ["--env", "real", "--generations", "1", "--eval-every", "1", "--rollouts", "1"]
    run_script("train_controller.py", "--run", run, "--from", doom_run, *flags)
    (line,) = (run / "controller" / "history.jsonl").read_text().splitlines()
    assert 50 < json.loads(line)["mean"] <= 150  # steps survived of at most 150


def test_agents_of_several_temperatures(doom_run, tmp_path):
    flags = ["--run", doom_run, "--vary", "temperature=0.5,1.15", "--sigma", "0.2", "--test-episodes", "2"]
    said = run_script("train_controller.py", *flags, ranks=2).stdout
    again = run_script("train_controller.py", *flags)
    assert again.stdout.endswith(said[said.index("agent ") :]) and "test episodes" not in again.stderr
    agents = [doom_run / f"agents/temperature-{tau}" for tau in (0.5, 1.15)]
    rows = [row for run in agents for row in json.loads((run / "results.json").read_text())["results"]]
    assert [(row["trained_temperature"], row["env"]) for row in rows] == [
        (tau, env) for tau in (0.5, 1.15) for env in ("dream", "real")
    ]
    assert all(f"{row['mean']:.1f} ± {row['std']:.1f}" in said for row in rows)
    for run, tau in zip(agents, (0.5, 1.15), strict=True):
        config = json.loads((run / "config.json").read_text())
        assert (config["temperature"], config["env"], config["sigma"]) == (tau, "dream", 0.2)
        assert (run / "controller" / "best.json").exists()
    assert run_dir.load(doom_run).sigma == 0.1
    assert (
        "trained at τ 0.5" in run_script("tools.report", doom_run).stdout + (doom_run / "report/report.md").read_text()
    )
    # Packed, each is still a run of its own, with the one V and M.
    run_script("train_controller.py", "--run", doom_run)
    run_script("tools.pack", "--run", doom_run, "--out", tmp_path / "doom")
    part = tmp_path / "doom/agents/temperature-0.5"
    run_script("evaluate.py", "--run", part, "--env", "dream", "--episodes", "2", "--save")
    assert (part / "videos" / "doom-dream-0.5.mp4").exists()
    returns = [row["returns"] for row in rows if (row["trained_temperature"], row["env"]) == (0.5, "dream")]
    assert [row["returns"] for row in json.loads((part / "results.json").read_text())["results"]][-1:] == returns


def test_dreams_along_an_episode_begin_at_its_frames_and_hold_after_an_end(doom_run, tmp_path):
    """M at random, sure of no end and then of one at once: 25 frames, a dream every 10."""
    config, rng = run_dir.load(doom_run), np.random.default_rng(3)
    params = rng.normal(size=Controller.of(config).num_params)
    z = rng.standard_normal((25, config.z_size))
    h, c = rng.uniform(-0.5, 0.5, (2, 25, config.rnn_units))
    run = shutil.copytree(doom_run, tmp_path / "run", ignore=shutil.ignore_patterns("record", "series*"))
    starts = DreamEnv(run).dreams.decode(z[::10].astype(np.float32))
    for bias in (-100.0, 100.0):
        rnn = load_rnn(run, config)
        rnn.head.bias.assign(np.concatenate([[bias], rnn.head.bias.numpy()[1:]]))
        save_weights(rnn, run / "rnn.weights.h5")
        frames, over = dreams_along(run, config, params, z, h, c, 10, seed=0)
        assert frames.shape == (25, 64, 64, 3) and over.shape == (25,)
        assert np.abs(frames[::10].astype(int) - starts).max() <= 1
        np.testing.assert_array_equal(over, (np.arange(25) % 10 > 0) & (bias > 0))
        moved = np.abs(frames[1].astype(int) - frames[5]).max()
        assert (moved == 0) if bias > 0 else (moved > 0)
