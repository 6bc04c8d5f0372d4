"""CarRacing's frames: the compiled drawing against the published environment, Gymnasium's, and plain numpy."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plain_drawing import PlainCarRacing

from world_models.tasks import raster
from world_models.tasks.carracing_env import CAMERAS, COLOURS, HULL, HULL_SIDES, WHEEL, WHITE, CarRacing, camera_of
from world_models.tasks.resize import shrink_car, shrink_doom

DATA = Path(__file__).parent / "data" / "carracing_v0_frames.npz"


def actions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Driving wild enough to leave the road, skid and turn round."""
    columns = rng.uniform(-1, 1, count), rng.uniform(0, 0.9, count), rng.uniform(0, 0.2, count)
    return np.stack(columns, axis=1).astype(np.float32)


def published_frames():
    """(published frame, our frame), rows 0-83, of the 30 frames that CarRacing-v0 itself drew."""
    data = np.load(DATA)
    for k in range(30):
        t, x, y, angle, vx, vy, _ = data[f"state_{k}"]
        wheels = data[f"wheels_{k}"]
        bodies = np.concatenate([wheels[:, [0, 1, 2, 4]], [[x, y, angle, 0]]])
        car, sides = np.zeros((12, 8, 2)), np.zeros(12, np.int64)
        raster.pose_car(bodies, WHEEL, HULL[:-1], HULL_SIDES[:-1], WHITE, car, sides)  # without the blob
        image = np.empty((raster.ROWS, raster.FRAME), np.uint16)
        camera = camera_of(CAMERAS["v0"], t, x, y, angle, vx, vy)
        road = data[f"road_{k}"]
        raster.draw(image, camera, road, raster.reach_of(road), car, sides, raster.CAR_COLOUR)
        road = np.rint(data[f"roadcol_{k}"] * 255).astype(np.uint8)
        frame = np.empty((raster.ROWS, raster.FRAME, 3), np.uint8)
        raster.shade(image, np.concatenate([COLOURS, road]), 1, frame)
        yield data[f"frame_{k}"][: raster.ROWS], frame


def test_v0_reproduces_the_published_environments_pixels():
    same = [np.abs(a.astype(int) - b).max(axis=-1) <= 1 for a, b in published_frames()]
    assert len(same) == 30
    assert np.mean(same) >= 0.9999  # without the stripes of its tyres, the least part of the car, 0.99985


@pytest.mark.parametrize("view", ["v0", "v3"])
def test_drawing_matches_its_reference(view):
    """10 tracks x 50 frames, the zoom-in and the grass included. v0: equal. v3: Gymnasium's, nearly."""
    env, reference = CarRacing(view=view), PlainCarRacing(view=view)
    differences, off_road = [], 0
    for track in range(10):
        env.reset(seed=track)
        for n, action in enumerate(actions(np.random.default_rng(track), 150)):
            observation = env.step(action)[0].astype(int)
            if n % 3 == 0:
                # The same state, drawn by the reference.
                for name in ("car", "t", "_road", "_reach", "_palette", "road_poly", "reward"):
                    setattr(reference, name, getattr(env, name))
                differences.append(np.abs(observation - reference._render("state_pixels")))
                off_road += not any(wheel.tiles for wheel in env.car.wheels)
    differences = np.stack(differences)
    assert len(differences) == 500 and off_road > 20
    if view == "v0":
        assert differences.max() == 0
    else:
        assert differences.mean() < 0.5
        assert np.percentile(differences, 99.9) < 12


def pillow(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("low", range(0, 250, 25))
def test_resize_is_pillows_to_the_bit(low):
    rng = np.random.default_rng(low)
    frame = rng.integers(low, 256, (84, 96, 3)).astype(np.uint8)
    np.testing.assert_array_equal(shrink_car(frame), pillow(frame))
    indices = rng.integers(0, 256, (400, 640)).astype(np.uint8)
    palette = rng.integers(low, 256, (256, 3)).astype(np.uint8)
    np.testing.assert_array_equal(shrink_doom(indices, palette), pillow(palette[indices]))


def test_polygons_are_filled_at_pixel_centres():
    """A right angle's corner at (1, 1) with legs of 3: the centres inside are counted by hand."""
    image = np.zeros((6, 6), np.uint16)
    xs, ys = np.array([1.0, 4.0, 1.0]), np.array([1.0, 1.0, 4.0])
    raster._fill(image, xs, ys, 3, 7, np.empty((6, 16)), np.empty(6, np.int64))
    expected = np.zeros((6, 6), int)
    expected[1, 1:3] = expected[2, 1] = 7  # centres (1.5, 1.5), (2.5, 1.5), (1.5, 2.5) have x + y < 5
    np.testing.assert_array_equal(image, expected)
