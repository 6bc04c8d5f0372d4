"""CarRacing's environment: Gymnasium's task, whatever the drawing."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.box2d.car_racing import CarRacing as Stock
from gymnasium.utils.env_checker import check_env
from test_raster import actions

from world_models.tasks.carracing_env import CarRacing
from world_models.tasks.pixels import shrink, stretch, wrap_black
from world_models.tasks.resize import shrink_car


@pytest.mark.parametrize(("view", "pixels"), [("v0", "paper"), ("v3", "release")])
def test_is_registered_and_passes_gymnasiums_checks(view, pixels):
    env = gym.make("env:WorldModels/CarRacing-v0", view=view, pixels=pixels)
    assert env.spec.max_episode_steps == 1000
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("view", ["v0", "v3"])
def test_rewards_and_ends_are_stock_gymnasiums(view):
    stock, ours = Stock(lap_complete_percent=1.0), CarRacing(view=view)
    stock._render = lambda mode: np.zeros((96, 96, 3), np.uint8)  # its drawing is slow, and changes nothing
    ends = 0
    for seed in range(3):
        stock.reset(seed=seed)
        ours.reset(seed=seed)
        # Straight on: off the field before long.
        drive = actions(np.random.default_rng(seed), 300) if seed else np.tile(np.float32([0, 0.2, 0]), (400, 1))
        for action in drive:
            _, *expected = stock.step(action)
            _, *found = ours.step(action)
            assert found == expected
            if found[1]:
                ends += 1
                break
    assert ends >= 1


def test_release_pixels_by_hand():
    frame = np.full((84, 96, 3), 100, np.uint8)
    frame[:42] = 50
    # 50..100 is stretched to 0..255; then every level is one lower, and black wraps to white.
    assert set(np.unique(stretch(frame, 50, 100))) == {0, 255}
    assert wrap_black(np.uint8([0, 1, 255])).tolist() == [255, 0, 254]
    observation = shrink(frame, "release", shrink_car)
    assert observation[0, 0, 0] == 255 and observation[-1, 0, 0] == 254
    np.testing.assert_array_equal(shrink(frame, "paper", shrink_car), shrink_car(frame))


@pytest.mark.parametrize("option", ["view", "pixels"])
def test_unknown_options_are_named(option):
    with pytest.raises(ValueError, match=f"{option} must be one of .*; got 'v9'"):
        CarRacing(**{option: "v9"})
