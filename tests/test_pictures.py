"""Pictures that environments render, and environments that end the program, are slow, or fail to start."""

import gymnasium as gym
import numpy as np
import pytest

from world_models import tasks
from world_models.config import UserError
from world_models.tasks.gymnasium_task import Pictured
from world_models.tasks.pixels import rgb

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 5, 3)).astype(np.uint8)
GREY = COLOUR[..., 0]
REPEATED = np.repeat(GREY[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (COLOUR, COLOUR),
        (GREY, REPEATED),
        (GREY[..., None], REPEATED),
        (np.dstack([COLOUR, GREY]), COLOUR),
        (COLOUR.astype(np.float32) / 255, COLOUR),
        (GREY.astype(np.float64) / 255, REPEATED),
        (np.dstack([COLOUR, GREY]).astype(np.float32) / 255, COLOUR),
        (COLOUR.astype(np.uint16), COLOUR),
        (COLOUR[::-1, ::2], COLOUR[::-1, ::2]),
        (np.float32([[-1e-7, 1 + 1e-6]]), [[[0] * 3, [255] * 3]]),
    ],
)
def test_pictures_become_rgb(picture, expected):
    found = rgb(picture)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        (None, "None"),
        ([COLOUR], "a list"),
        (COLOUR.astype(np.float32), r"float32 \(6, 5, 3\) with values from"),
        (COLOUR / 255 - 0.5, r"float64 \(6, 5, 3\) with values from -0.5"),
        (np.full((6, 5, 3), np.nan), r"float64 \(6, 5, 3\) with values from nan"),
        (np.full((6, 5), np.inf), r"float64 \(6, 5\) with values from inf"),
        (COLOUR.astype(np.int32) + 100, r"int32 \(6, 5, 3\) with values from"),
        (COLOUR.astype(np.int16) - 1, r"int16 \(6, 5, 3\) with values from -1"),
        (np.zeros((0, 5, 3), np.uint8), r"uint8 \(0, 5, 3\)"),
        (COLOUR.transpose(2, 0, 1), r"uint8 \(3, 6, 5\)"),
        (COLOUR[..., :2], r"uint8 \(6, 5, 2\)"),
        (COLOUR.ravel(), r"uint8 \(90,\)"),
        (COLOUR > 100, r"bool \(6, 5, 3\)"),
        (COLOUR.astype(np.complex64), r"complex64 \(6, 5, 3\)"),
        ("picture", r"<U7 \(\)"),
        (np.array([[None]]), r"object \(1, 1\)"),
    ],
)
def test_what_is_no_picture_is_one_line(picture, found):
    with pytest.raises(UserError, match=rf"expected uint8 \(H, W, 3\).*found {found}") as error:
        rgb(picture)
    assert "\n" not in str(error.value)


class Odd(gym.Env):
    """An environment whose methods do as they are told."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 Gymnasium's own convention
    observation_space = gym.spaces.Box(0, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None, fps=30, start=None, picture=COLOUR, reward=1.0, end=None):
        self.render_mode, self.picture, self.reward, self.end = render_mode, picture, reward, end
        self.metadata = {**self.metadata, "render_fps": fps}
        if start is not None:
            raise start

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        if self.end is not None:
            raise self.end
        return np.zeros(1, np.float32), self.reward, False, False, {}

    def render(self):
        return self.picture


def odd(name: str, **options) -> str:
    """The task of an environment with these options."""
    gym.register(f"{name}-v0", Odd, kwargs=options)
    return f"gymnasium:{name}-v0"


def test_the_first_frame_is_reported_and_films_are_uint8():
    with pytest.raises(UserError, match=r"gymnasium:Deep-v0: render\(\): expected .*found int64"):
        tasks.get(odd("Deep", picture=COLOUR.astype(np.int64) * 300)).make_env(None, None).reset(seed=0)
    env = tasks.get(odd("Shade", picture=GREY / 255)).make_env(None, None)
    assert env.reset(seed=0)[0].shape == (64, 64, 3)
    np.testing.assert_array_equal(env.render(), REPEATED)


def test_an_environment_that_does_not_start_is_one_line():
    with pytest.raises(UserError, match="cannot make it: Environment `Nowhere`"):
        tasks.get("gymnasium:Nowhere-v0")
    for number, error in enumerate((ValueError("no\nlevel"), OSError(2, "No such file", "x.rom"), KeyError("level"))):
        with pytest.raises(UserError, match=f"cannot make it: {type(error).__name__}: ") as caught:
            tasks.get(odd(f"Raising{number}", start=error))
        assert "\n" not in str(caught.value)


def test_an_environment_cannot_end_the_program():
    with pytest.raises(UserError, match=r"gymnasium:Exiting-v0: the environment ended the program \(sys.exit\(0\)"):
        tasks.get(odd("Exiting", start=SystemExit(0)))
    env = tasks.get(odd("Quitting", end=SystemExit(0))).make_env(None, None)
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"ended the program \(sys.exit\(0\)\)"):
        env.step(np.float32([0, 1]))


def test_an_oserror_of_an_environment_keeps_its_traceback():
    """As an OSError it would be taken for one of the run's files, and be one line."""
    env = tasks.get(odd("Torn", end=FileNotFoundError(2, "No such file", "level.dat"))).make_env(None, None)
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="Torn-v0: the environment failed") as caught:
        env.step(np.float32([0, 1]))
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("fps", [None, 50, 29.97, 0.5, np.float32(12), -3, 1e9])
def test_the_speed_of_films_is_a_whole_number(fps):
    expected = {None: 30, 29.97: 30, 0.5: 1, -3: 1, 1e9: 1000}.get(fps, fps)
    assert Pictured(Odd(fps=fps), "gymnasium:Odd").fps == expected


@pytest.mark.parametrize("fps", ["fast", float("nan"), float("inf"), [30]])
def test_a_speed_that_is_none_is_one_line(fps):
    with pytest.raises(UserError, match=r"cannot make it: \w+Error: "):
        tasks.get(odd(f"Speed{str(fps).strip('[]')}", fps=fps))


def test_max_frames_stays_within_the_environments_own_limit():
    """Else dreams would be longer than any game."""
    config = tasks.preset("gymnasium:CartPole-v1", "paper")
    assert config.max_frames == 500 and tasks.replace(config, max_frames=500)
    with pytest.raises(UserError, match="CartPole-v1 ends an episode after 500 steps, got 600"):
        tasks.replace(config, max_frames=600)
    assert tasks.replace(tasks.preset(odd("Endless"), "paper"), max_frames=5000).max_frames == 5000
