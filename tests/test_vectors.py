"""The environments with other agents: copies, vectors, wrong actions, and an agent of Stable-Baselines3."""

import copy
import importlib.util
import os
import pickle
import re
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from conftest import ROOT
from small_play import play_alone

from controller.lanes import RealLanes
from controller.policy import Controller
from controller.rollout import play
from doom_rnn.env import DreamEnv
from doom_rnn.latent import LatentEnv
from doom_rnn.vector import VectorDreamEnv
from world_models.config import UserError
from world_models.jobs import Jobs
from world_models.mpi import Alone
from world_models.runs.run import Run
from world_models.tasks.actions import checked
from world_models.tasks.carracing_env import CarRacing
from world_models.tasks.takecover_env import DoomTakeCover
from world_models.world_model import WorldModel

DREAM = "doom_rnn:WorldModels/DoomRNN-v0"


def elsewhere(folder, code: str, *arguments) -> str:
    """What a program of the user's prints, started in a folder of the user's."""
    (folder / "program.py").write_text(code, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    call = [sys.executable, "program.py", *map(str, arguments)]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("level", [None, "0"])
def test_a_dream_starts_without_tensorflows_messages(tmp_path, doom_run, level):
    """TensorFlow logs no errors of its own, unless the user asks for them."""
    code = "import os, sys, gymnasium\ngymnasium.make(sys.argv[1], run=sys.argv[2]).reset()\n"
    (tmp_path / "program.py").write_text(code + "print(os.environ['TF_CPP_MIN_LOG_LEVEL'])\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"TF_CPP_MIN_LOG_LEVEL": level} if level else {})
    call = [sys.executable, "-W", "ignore", "program.py", DREAM, str(doom_run)]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, env=environment, check=True)
    assert (done.stdout.strip(), done.stderr) == (level or "3", "")


def test_environments_are_copied_by_their_arguments(doom_run):
    """A copy starts again."""
    one = DreamEnv(doom_run, temperature=0.7, render_mode="rgb_array")
    batch = gym.make_vec(DREAM, 2, run=doom_run, temperature=0.7).unwrapped
    for env, action in ((one, np.float32([0.5])), (batch, np.zeros((2, 1))), (LatentEnv(doom_run), np.zeros(1))):
        first, _ = env.reset(seed=3)
        env.step(action.astype(np.float32))
        for other in (pickle.loads(pickle.dumps(env)), copy.deepcopy(env)):
            if env is one:
                assert (other.dreams.temperature, other.render_mode, other.dreams.random) == (0.7, "rgb_array", {})
            np.testing.assert_array_equal(other.reset(seed=3)[0], first)
            other.close()
        env.close()


OBSERVATIONS = """
for env, size in ((car, (64, 64, 3)), (dream, dream.observation_space.shape), (game, dream.observation_space.shape)):
    observation, _ = env.reset(seed=1)
    assert observation.shape == size, observation.shape
    observation, reward, *_ = env.step(env.action_space.sample())
    print(env.spec.id, observation.shape, reward)
    env.close()
"""


def test_the_documented_four_lines_work_in_a_project_elsewhere(tmp_path):
    page = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    [path] = re.findall(r"^export PYTHONPATH=(\S+)$", page, re.M)
    [lines] = re.findall(r"^```python\n(import gymnasium\n\ncar = .*?)^```", page, re.M | re.S)
    assert len([line for line in lines.splitlines() if line]) == 4 and path in lines
    done = elsewhere(tmp_path, lines.replace(path, str(ROOT)) + OBSERVATIONS).splitlines()
    assert [line.split()[0] for line in done] == [f"WorldModels/{x}-v0" for x in ("CarRacing", "DoomRNN", "Latent")]
    assert {file.name for file in tmp_path.iterdir()} == {"program.py"}


ASYNC = """
import sys
import gymnasium
import numpy as np

if __name__ == "__main__":
    name, options = "doom_rnn:WorldModels/DoomRNN-v0", dict(num_envs=2, vectorization_mode="async", run=sys.argv[1])
    dreams = gymnasium.make_vec(name, **options)
    dreams.reset(seed=1)
    actions = np.zeros((2, 1), np.float32)
    print("reward", dreams.step(actions)[1])
    dreams.close()
    one = gymnasium.make(name, run=sys.argv[1])
    one.reset()
    one.step(actions[0])  # starts TensorFlow here
    dreams = gymnasium.make_vec(name, **options)
    dreams.reset(seed=1)
    try:
        dreams.step(actions)
    except Exception as error:
        print(type(error).__name__, error)
    dreams.close(terminate=True)
"""


def test_asynchronous_dreams_work_or_say_what_to_pass(doom_run, tmp_path):
    lines = elsewhere(tmp_path, ASYNC, doom_run.resolve()).splitlines()
    assert lines[0] == "reward [1. 1.]"
    assert lines[1].startswith("UserError") and "vector_kwargs={'context': 'spawn'}" in lines[1]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(("name", "size"), [("CarRacing-v0", 3), ("DoomTakeCover-v0", 1)])
def test_tasks_environments_in_vectors(name, size, mode):
    envs = gym.make_vec(f"env:WorldModels/{name}", 2, mode)
    observations, _ = envs.reset(seed=1)
    assert observations.shape == (2, 64, 64, 3) and observations.std() > 0
    *_, infos = envs.step(np.zeros((2, size), np.float32))
    assert isinstance(infos, dict)
    envs.close()


@pytest.mark.parametrize("make", [CarRacing, DoomTakeCover, "dream", "dreams", "latent"])
def test_wrong_steps_are_named(make, doom_run):
    makers = {"dream": DreamEnv, "dreams": lambda run: VectorDreamEnv(1, run), "latent": LatentEnv}
    env = makers[make](doom_run) if isinstance(make, str) else make()
    shape = env.action_space.shape
    with pytest.raises(gym.error.ResetNeeded, match="call it before step"):
        env.step(np.zeros(shape, np.float32))
    env.reset(seed=1)
    with pytest.raises(UserError, match="expected finite numbers"):
        env.step(np.full(shape, np.nan, np.float32))
    env.close()


def test_an_action_is_checked():
    assert checked([1], 1, 1).shape == (1, 1)
    for wrong in ([1.0, 2.0], "left", None):
        with pytest.raises(UserError, match="expected numbers of shape"):
            checked(wrong, 1)


def test_the_game_is_seen_as_the_lanes_see_it(doom_run):
    """The same episode of the same agent, alone through V and M and in the lanes of an evaluation."""
    run = Run(doom_run)
    params = np.random.default_rng(1).normal(size=(1, Controller.of(run.config).num_params))
    lanes = RealLanes(run.config, WorldModel.load(run), 1)
    [(total, steps)] = play(lanes, Jobs(Alone(), 1), params, [5]).values()
    lanes.close()
    game = gym.make("doom_rnn:WorldModels/Latent-v0", run=doom_run)
    rewards, _ = play_alone(game, run.config, params[0], 5)
    game.close()
    assert (sum(rewards), len(rewards)) == (total, steps)


@pytest.mark.skipif(
    not importlib.util.find_spec("stable_baselines3") and not os.environ.get("CI"),
    reason="needs stable-baselines3, which .ci/run installs",
)
def test_an_agent_of_stable_baselines_trains_in_the_dream_and_plays_the_game(doom_run, tmp_path):
    code = "import sys\nfrom examples.stable_baselines import main\n"
    # The order in which modules were loaded: where triton is installed, it must come before TensorFlow.
    code += "loaded = [*sys.modules]\nassert loaded.index('torch._dynamo') < loaded.index('tensorflow')\nmain()\n"
    flags = ["--run", doom_run.resolve(), "--steps", "2000", "--envs", "16", "--episodes", "2"]
    trained, scored = elsewhere(tmp_path, code, *flags).splitlines()[-2:]
    assert "2,000 steps in 16 dreams of one vector" in trained and "over 2 episodes" in scored


def test_gymnasiums_wrapper_collects_the_pictures_of_an_episode():
    env = gym.wrappers.RenderCollection(gym.make("env:WorldModels/CarRacing-v0", render_mode="rgb_array"))
    env.reset(seed=1)
    for _ in range(3):
        env.step(np.float32([0, 0.5, 0]))
    frames = np.stack(env.render())
    env.close()
    assert frames.dtype == np.uint8 and len(frames) == 4 and np.ptp(frames) > 200 and (frames[1] != frames[3]).any()
