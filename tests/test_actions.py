"""Actions: integers in equal parts, and one choice for numpy, TensorFlow, the game and M."""

import gymnasium as gym
import keras
import numpy as np
import pytest
from small_run import make_run

from controller.policy import Controller
from doom_rnn.env import DreamEnv
from doom_rnn.latent import LatentEnv
from doom_rnn.vector import VectorDreamEnv
from world_models import tasks
from world_models.config import UserError
from world_models.tasks.gymnasium_task import Pictured, RandomHolder, action_bounds


class Echo(gym.Env):
    """It has the actions of `space`, and its info is the action that it was given."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 Gymnasium's own convention
    observation_space = gym.spaces.Box(0, 1, (1,))
    render_mode = "rgb_array"

    def __init__(self, space: gym.Space):
        self.action_space = space

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.zeros(1, np.float32), 0.0, False, False, {"action": action}

    def render(self):
        return np.zeros((4, 4, 3), np.uint8)


def played(space: gym.Space, actions: np.ndarray) -> np.ndarray:
    """What an environment with these actions is given for (N, A) of C's, (N, ...)."""
    env = Pictured(Echo(space), "gymnasium:Echo")
    return np.array([env.step(np.float32(action))[4]["action"] for action in actions])


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-1, 1, np.int32),
        (0, 3, np.int64),
        (0, 255, np.uint8),
        (-128, 127, np.int8),
        (5, 5, np.int16),
        (-7, -2, np.int64),
        (0, 1, np.uint64),
    ],
)
def test_each_integer_of_a_box_has_an_equal_part(low, high, dtype):
    space, count = gym.spaces.Box(low, high, (1,), dtype), high - low + 1
    share = (np.arange(count * 10) + 0.5) / (count * 10)  # of -1 to 1
    found = played(space, 2 * share[:, None] - 1)[:, 0]
    np.testing.assert_array_equal(found, np.repeat(np.arange(low, high + 1), 10))
    ends = played(space, [[-1.0], [1.0], [-1.2], [1.2]])[:, 0]
    np.testing.assert_array_equal(ends, [low, high, low, high])
    policy = RandomHolder(np.random.default_rng(0), action_bounds(space))
    drawn = played(space, [policy.act(frame) for frame in range(150 * min(count, 20))])
    assert len(np.unique(drawn)) == count if count <= 20 else len(np.unique(drawn)) > count / 3


def test_the_widest_box_of_integers_has_its_ends():
    space = gym.spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (2,), np.int64)
    found = played(space, [[-1, 1], [0, 0]])
    assert found[0].tolist() == [space.low[0], space.high[0]] and abs(int(found[1, 0])) <= 1


def test_every_number_of_a_box_has_its_own_range():
    space = gym.spaces.Box(np.array([[0, -3], [10, 0]]), np.array([[1, 3], [12, 0]]), dtype=np.int32)
    np.testing.assert_array_equal(
        played(space, [[-1, -1, -1, -1], [1, 1, 1, 1], [0.1, 0.1, 0.1, 0.1]]),
        [[[0, -3], [10, 0]], [[1, 3], [12, 0]], [[1, 0], [11, 0]]],
    )
    floats = gym.spaces.Box(np.float32([-2, 0]), np.float32([2, 10]))
    np.testing.assert_allclose(
        played(floats, [[-1, -1], [1, 1], [0.5, 0], [3, -3]]), [[-2, 0], [2, 10], [1, 5], [2, 0]]
    )
    huge = gym.spaces.Box(-1e308, 1e308, (1,), np.float64)
    np.testing.assert_array_equal(played(huge, [[-1], [0], [1]]), [[-1e308], [0], [1e308]])


@pytest.mark.parametrize(
    ("space", "found"),
    [
        (gym.spaces.Discrete(10**9), "1 to 1024 choices, found 1000000000"),
        (gym.spaces.Box(-1, 1, (40, 40)), "1 to 1024 numbers, found 1600"),
        (gym.spaces.Box(-1, 1, (0,)), "1 to 1024 numbers, found 0"),
        (gym.spaces.Box(-np.inf, np.inf, (1,)), "expected a Box with finite bounds, or Discrete"),
        (gym.spaces.MultiDiscrete([2, 3]), "expected a Box with finite bounds, or Discrete"),
    ],
)
def test_actions_that_no_controller_has_are_one_line(space, found):
    with pytest.raises(UserError, match=found) as error:
        Pictured(Echo(space), "gymnasium:Echo")
    assert "\n" not in str(error.value)


CHOICE = Controller(tasks.get("gymnasium:CartPole-v1"), "z", 1, 1)


FIRST = (30, 12), (-50, -60), (0, 0), (9, 9), (np.inf, 1), (-0.0, 0.0)
SECOND = (1, 2), (8, 9), (9.5, 20), (-20, -19), (1e30, 2e30), (0.0, 1e-30)


@pytest.mark.parametrize("ops", [np, keras.ops])
@pytest.mark.parametrize(("outputs", "chosen"), [*((pair, 0) for pair in FIRST), *((pair, 1) for pair in SECOND)])
def test_a_choice_is_the_greatest_output_before_tanh(outputs, chosen, ops):
    params = np.zeros((1, CHOICE.num_params), np.float32)
    params[0, :2] = outputs  # the biases
    zero = np.zeros((1, 1), np.float32)
    np.testing.assert_array_equal(np.asarray(CHOICE.act(params, zero, zero, zero, ops))[0], np.eye(2)[chosen])


@pytest.mark.parametrize("ops", [np, keras.ops])
def test_noise_chooses_before_it_is_cut(ops):
    params, zero = np.zeros((3, CHOICE.num_params), np.float32), np.zeros((3, 1), np.float32)
    push = np.float32([[1.1, 1.3], [1.3, 1.1], [-2.0, -3.0]])
    found = np.asarray(CHOICE.act(params, zero, zero, zero, ops, push))
    np.testing.assert_array_equal(found, [[0, 1], [1, 0], [1, 0]])


def test_random_agents_choose_the_same_in_numpy_and_tensorflow():
    rng = np.random.default_rng(0)
    many = Controller(tasks.get("gymnasium:FrozenLake-v1"), "z_hidden", 8, 1)
    for scale in (0.1, 3.0, 100.0):
        params = rng.normal(0, scale, (500, many.num_params)).astype(np.float32)
        z = rng.normal(size=(500, 8)).astype(np.float32)
        found = [np.asarray(many.act(params, z, None, None, ops)) for ops in (np, keras.ops)]
        np.testing.assert_array_equal(*found)
        assert (found[0].sum(axis=1) == 1).all() and len(np.unique(found[0].argmax(axis=1))) == 4


def test_an_agent_of_dreams_may_give_any_numbers_for_a_choice(tmp_path):
    """M was trained on 1 for the choice and 0 for the others. It is told that by every kind of dream."""
    run = make_run(tmp_path, "gymnasium:CartPole-v1").path
    single, vector, game = DreamEnv(run), VectorDreamEnv(2, run), LatentEnv(run)
    seen = {}
    for action in ((0.0, 1.0), (0.2, 0.9), (-3.0, 5.0), (1.0, 0.0)):
        for env in (single, vector, game):
            env.reset(seed=1)
        steps = (single.step(action), vector.step(np.float32([action, action])), game.step(action))
        seen[action] = np.concatenate([np.ravel(part) for step in steps for part in step[:2]])
    for action in ((0.2, 0.9), (-3.0, 5.0)):
        np.testing.assert_array_equal(seen[action], seen[0.0, 1.0])
    assert not np.array_equal(seen[1.0, 0.0], seen[0.0, 1.0])
    game.close()
