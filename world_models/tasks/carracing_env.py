"""Gymnasium's CarRacing with the published environment's view, at 64x64.

Physics, rewards and tracks are untouched; what differs is how a frame is drawn and shrunk.
"""

import math
import threading
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.box2d import car_dynamics, car_racing
from gymnasium.utils import EzPickle

from world_models.tasks import raster
from world_models.tasks.actions import checked
from world_models.tasks.carracing import VARIANTS
from world_models.tasks.pixels import PIXELS, SIZE, choose, shrink
from world_models.tasks.resize import shrink_car


@dataclass(frozen=True)
class View:
    """A camera: the window it draws to, and what a pixel of the 96x96 frame is made of.

    Attributes:
        window: (width, height) in the window's pixels, where the zoom is 2.7 x 6 a world unit.
        samples: points a pixel along each axis, averaged; 1 or 4.
        follow: whether the camera turns with the direction of travel, or with the car.
        dim: levels that each colour loses when the frame is shrunk (pygame's smoothscale rounds down, twice).
        tile: the road's grey as (i % 3) gives it: tile i is lighter by 0, 0.01 or 0.02 until it is driven on.
    """

    window: tuple[int, int]
    samples: int
    follow: bool
    dim: np.uint8
    tile: tuple[int, int, int]


CAMERAS = {
    # gym 0.9.4, car_racing.py: WINDOW_W x WINDOW_H and OpenGL, one sample a pixel; colours are rounded.
    "v0": View(window=(1200, 1000), samples=1, follow=True, dim=np.uint8(0), tile=(102, 105, 107)),
    # Gymnasium: pygame at 1000x800, shrunk by area; colours are cut to integers.
    "v3": View(window=(1000, 800), samples=4, follow=False, dim=np.uint8(2), tile=(102, 104, 107)),
}
# In `raster`'s order: outside, field, grass, wheel, white of the tyre, hull.
COLOURS = np.array([(0, 0, 0), (102, 204, 102), (102, 230, 102), (0, 0, 0), (77, 77, 77), (204, 0, 0)], np.uint8)


class CarRacing(car_racing.CarRacing):
    """Gymnasium's CarRacing, seen at 64x64.

    Args:
        render_mode: as Gymnasium's ("rgb_array" draws Gymnasium's own large frame).
        view: "v0", the published CarRacing-v0's camera and sampling; "v3", Gymnasium's.
        pixels: "paper": rows 0-83, resized, as they are; "release": also the release's stretch and wrap.
        variant: "plain", or what a test of generalisation changes in the observation, as AttentionAgent's authors did:
            "colour" (the field's and the road's, by a level each that an episode draws), "bars" (black, left and
            right), "blob" (a red square moves with the car).

    Observation: uint8 (64, 64, 3). Action: steer -1..1, gas 0..1, brake 0..1.
    Reward: +1000/N a new tile of N, -0.1 a frame, -100 off the field. Terminates when every tile has been
    visited or off the field; never truncates itself.
    """

    def __init__(
        self,
        render_mode: str | None = None,
        view: str = "v0",
        pixels: str = "paper",
        variant: str = "plain",
    ):
        # 1.0: the lap ends when all tiles are visited, as in v0. Gymnasium's default of 0.95 has no effect
        # today (its issue 1269); this keeps a later fix from changing the task.
        super().__init__(render_mode=render_mode, lap_complete_percent=1.0)
        EzPickle.__init__(self, render_mode=render_mode, view=view, pixels=pixels, variant=variant)
        self.view = choose("view", view, tuple(CAMERAS))
        self.pixels = choose("pixels", pixels, PIXELS)
        self.variant = choose("variant", variant, VARIANTS)
        self.camera = CAMERAS[view]
        shapes = len(HULL) - (variant != "blob")
        self._hull, self._sides = HULL[:shapes], HULL_SIDES[:shapes]
        self.observation_space = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def step(self, action: np.ndarray | int | None) -> tuple[np.ndarray, float, bool, bool, dict]:
        """As Gymnasium's; None, of which `reset` makes the first frame, acts not at all."""
        if self.car is None:
            raise gym.error.ResetNeeded("an episode begins with reset(): call it before step()")
        # Box2D computes with NaN, and a car of NaN has visited every tile.
        controls: Any = None if action is None else checked(action, 3)
        return super().step(controls)

    def _create_track(self) -> bool:
        if not super()._create_track():
            return False
        self._road = np.array([polygon for polygon, _ in self.road_poly])
        self._reach = raster.reach_of(self._road)
        # Each tile's colour becomes a row of one array. Gymnasium repaints a tile in place when it is driven
        # on, so that the array is up to date at no cost.
        road_colour = np.array([colour for _, colour in self.road_poly]).astype(np.uint8)
        self._palette = np.concatenate([COLOURS, road_colour])
        shift = 0
        if self.variant == "colour":  # drawn after the track, which is then that of the plain game
            field, shift = self.np_random.integers(-SHIFT, SHIFT + 1, 2)
            self._palette[raster.FIELD] = COLOURS[raster.FIELD] + field
            self.bg_color, self.road_color = self._palette[raster.FIELD], np.full(3, self.camera.tile[0] + shift)
        road: Any = self.road  # declared as None
        painted = {id(tile.color): tile for tile in road}
        for n, (polygon, colour) in enumerate(self.road_poly):
            if (tile := painted.get(id(colour))) is not None:
                tile.color = self._palette[raster.ROAD + n]
                tile.color[:] = self.camera.tile[tile.idx % 3] + shift
                self.road_poly[n] = (polygon, tile.color)
        return True

    def _render(self, mode: str):
        if mode != "state_pixels":
            return super()._render(mode)
        return shrink(self._draw(), self.pixels, shrink_car)

    def _draw(self) -> np.ndarray:
        """The picture before it is shrunk, uint8 (84, 96, 3), rows 0-83 of the 96; in memory that the next drawing
        overwrites, of whichever environment."""
        assert self.car is not None
        hull, wheels = self.car.hull, self.car.wheels
        # Every access to Box2D's attributes makes new objects: once a frame. A vector's `tuple` is twice as fast as
        # its items.
        poses = [n for wheel in wheels for n in (*wheel.position.tuple, wheel.angle, wheel.phase)]
        poses += (*hull.position.tuple, hull.angle, 0.0)
        shapes = 8 + len(self._hull)
        car, sides = SCRATCH.car[:shapes], SCRATCH.sides[:shapes]
        raster.pose_car(np.array(poses).reshape(5, 4), WHEEL, self._hull, self._sides, WHITE, car, sides)
        samples = self.camera.samples
        image = SCRATCH.images[samples]
        camera = camera_of(self.camera, self.t, *poses[16:19], *hull.linearVelocity.tuple)
        raster.draw(image, camera, self._road, self._reach, car, sides, raster.CAR_COLOUR)
        if self.variant == "bars":
            wide = round(BAR * image.shape[1])
            image[:, :wide] = image[:, -wide:] = raster.BLACK
        palette = self._palette
        if self.camera.dim:
            palette = palette - np.minimum(palette, self.camera.dim)
        raster.shade(image, palette, samples, SCRATCH.frame)
        return SCRATCH.frame


class Scratch(threading.local):
    """Thread-local render buffers, shared by all environments of a thread, so that they stay in the cache."""

    def __init__(self):
        self.images = {k: np.empty((raster.ROWS * k, raster.FRAME * k), np.uint16) for k in (1, 4)}
        self.frame = np.empty((raster.ROWS, raster.FRAME, 3), np.uint8)
        self.car, self.sides = np.zeros((13, 8, 2)), np.zeros(13, np.int64)


SCRATCH = Scratch()


def camera_of(view: View, t: float, x: float, y: float, angle: float, vx: float, vy: float) -> np.ndarray:
    """World to samples: (a, b, c, d, e, f) with column = a x - b y + c and row = d x + e y + f.

    Args:
        view: the camera.
        t: seconds since the start; over the first the picture zooms in.
        x, y, angle, vx, vy: the hull's position, angle (radians) and velocity.
    """
    zoom = car_racing.SCALE * (0.1 * max(1 - t, 0) + car_racing.ZOOM * min(t, 1))
    turn = -angle
    if view.follow and math.hypot(vx, vy) > 0.5:
        turn = math.atan2(vx, vy)
    cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
    width, height = view.window
    across, down = raster.FRAME * view.samples / width, raster.FRAME * view.samples / height
    # The hull stands in the middle, a quarter of the window above its lower edge.
    left, top = width / 2 - cos * x + sin * y, height * 3 / 4 + sin * x + cos * y
    return np.array((cos * across, sin * across, left * across, -sin * down, -cos * down, top * down))


def _outline(points: list[tuple[float, float]]) -> np.ndarray:
    return np.array(points, np.float64) * car_dynamics.SIZE


# AttentionAgent's variants (its release, car_racing_variants): colours change by up to 0.2, a bar has 75 of the
# window's 1,000 pixels, and the blob is 8 x 8 units large, to the right and ahead of the car.
SHIFT, BAR = 51, 0.075
BLOB = [(1050, 380), (1450, 380), (1450, 780), (1050, 780)]
_HULL = [getattr(car_dynamics, f"HULL_POLY{k}") for k in (1, 2, 3, 4)]
HULL_SIDES = np.array([len(polygon) for polygon in (*_HULL, BLOB)])
HULL = np.stack([np.pad(_outline(p), ((0, 8 - len(p)), (0, 0))) for p in (*_HULL, BLOB)])
WHITE = (car_dynamics.WHEEL_W * car_dynamics.SIZE, car_dynamics.WHEEL_R * car_dynamics.SIZE)
WHEEL = np.array([(-1, 1), (1, 1), (1, -1), (-1, -1)]) * WHITE
