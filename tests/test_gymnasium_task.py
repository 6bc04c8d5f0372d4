"""Any Gymnasium environment as a task: its actions, its pictures, and every stage on real ones."""

import itertools
import json
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from conftest import run_script
from small_run import make_run

from controller.policy import Controller
from world_models import tasks
from world_models.environments import make_env
from world_models.stages.recording import record

SMALL = (
    "--preset smoke --episodes 5 --max-frames 40 --vae-epochs 1 --vae-batch 10 --rnn-steps 3 --rnn-batch 3 "
    "--rnn-length 20 --population 4 --rollouts 2 --generations 2 --eval-every 2 --eval-episodes 3 --lanes 4"
)


@pytest.mark.parametrize(
    ("env_id", "size", "low"), [("Pendulum-v1", 1, -1), ("CartPole-v1", 2, 0), ("BipedalWalker-v3", 4, -1)]
)
def test_an_environment_becomes_a_task(env_id, size, low):
    config = tasks.preset(f"gymnasium:{env_id}", "smoke")
    task, env = tasks.get(config.task), make_env(config)
    assert task.low == (low,) * size and tasks.check(config) is config and config.heads == "end+reward"
    assert {tasks.preset(config.task, preset).vae_bias for preset in ("paper", "laptop", "smoke")} == {"mean"}
    observation, _ = env.reset(seed=1)
    assert observation.shape == (64, 64, 3) and observation.dtype == np.uint8 and observation.std() > 0
    policy, reward = task.policies["held"](np.random.default_rng(0)), 0.0
    actions = [policy.act(frame) for frame in range(60)]
    changes = sum(tuple(action) != tuple(before) for before, action in itertools.pairwise(actions))
    assert all(env.action_space.contains(action) for action in actions) and 3 < changes < 40
    frames = []
    for action in actions[:10]:
        observation, reward, *_ = env.step(action)
        frames.append(observation)
    assert np.isfinite(reward) and len({frame.tobytes() for frame in frames}) > 3
    controller = Controller.of(config)
    params = np.random.default_rng(1).normal(size=(6, controller.num_params))
    state = np.zeros((6, config.rnn_units))
    acted = controller.act(params, np.random.default_rng(2).normal(size=(6, config.z_size)), state, state)
    assert all(env.action_space.contains(action.astype(np.float32)) for action in acted)
    env.close()


def test_an_action_means_what_the_environment_does_itself():
    """Pendulum's torque is -2..2, CartPole's choices are 0 and 1: the same rewards and states as by hand."""
    ours, theirs = make_env(tasks.preset("gymnasium:Pendulum-v1", "smoke")), gym.make("Pendulum-v1")
    ours.reset(seed=3), theirs.reset(seed=3)
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 1)).astype(np.float32):
        assert ours.step(action)[1] == pytest.approx(theirs.step(2 * action)[1], rel=1e-6)
    ours, theirs = make_env(tasks.preset("gymnasium:CartPole-v1", "smoke")), gym.make("CartPole-v1")
    ours.reset(seed=3), theirs.reset(seed=3)
    for choice in (0, 1, 1, 0):
        ours.step(np.eye(2, dtype=np.float32)[choice])
        theirs.step(choice)
        np.testing.assert_array_equal(ours.unwrapped.state, theirs.unwrapped.state)


def test_all_stages_on_pendulum_and_its_dream(tmp_path):
    """The command of docs/guide.md, in small: one round, tested in the dream and in reality."""
    run = tmp_path / "pendulum"
    page = (Path(__file__).parent.parent / "docs" / "guide.md").read_text()
    command = re.search(r"train_all\.py (--run runs/pendulum .*--rounds 3)$", page, re.MULTILINE).group(1)
    for shown, small in (("--preset laptop", SMALL), ("--rounds 3", "--rounds 1"), ("runs/pendulum", str(run))):
        assert shown in command
        command = command.replace(shown, small)
    done = run_script("train_all.py", *command.split(), "--test-episodes", "2")
    assert "XDG_RUNTIME_DIR" not in done.stderr
    rows = json.loads((run / "results.json").read_text())["results"]
    assert [(row["play_in"], row["temperature"]) for row in rows] == [("dream", 1.0), ("real", 1.0)]
    assert rows[1]["max"] < 0  # Pendulum's rewards are costs
    assert (run / "videos" / "gymnasium-Pendulum-v1-worst.mp4").exists()
    env = gym.make("doom_rnn:WorldModels/Dream-v0", run=run)
    env.reset(seed=1)
    _, reward, _, truncated, _ = env.step(env.action_space.sample())
    assert np.isfinite(reward) and not truncated


def test_choices_evolve_in_the_real_environment(tmp_path):
    run = make_run(tmp_path / "cartpole", "gymnasium:CartPole-v1", play_in="real", heads="none", generations=2)
    run_script("train_controller.py", "--run", run)
    history = [json.loads(line) for line in (run / "controller" / "history.jsonl").read_text().splitlines()]
    assert all(line["mean"] == line["mean_steps"] <= 20 for line in history)  # CartPole pays 1 a step


@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1"])
@pytest.mark.parametrize("preset", ["smoke", "laptop"])
def test_presets_record_frames_enough_for_short_episodes(env_id, preset):
    """Episodes of the random policy have 13 frames in CartPole and 10 in FrozenLake."""
    config = tasks.preset(f"gymnasium:{env_id}", preset)
    env = make_env(config)
    recorded = (len(record(env, config, index)[0]["obs"]) for index in range(30))
    frames = np.mean(list(recorded)) * config.episodes
    assert frames > 1.5 * config.rnn_batch * (config.rnn_length + 1) and frames > 2 * config.vae_batch
    long = "gymnasium:Pendulum-v1"
    assert tasks.preset(long, preset).episodes == tasks.get(long).presets[preset]["episodes"]


def test_extract_reports_recordings_that_are_too_short(tmp_path):
    """Not train_rnn.py, after V's training."""
    command = ("extract.py", "--run", tmp_path / "run", "--task", "gymnasium:FrozenLake-v1", "--preset", "smoke")
    done = run_script(*command, "--episodes", "20", check=False)
    [line] = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 2 and re.search(r"frames are recorded, too few for --rnn-batch 8 .*--rnn-length 50", line)
    assert line.endswith(f"--run NEW --from {tmp_path / 'run'}")
    again = ("extract.py", "--run", tmp_path / "new", "--from", tmp_path / "run", "--rnn-batch", "2")
    assert "all 20 episodes are recorded" in run_script(*again).stdout  # the remedy
