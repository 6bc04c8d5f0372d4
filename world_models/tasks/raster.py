"""CarRacing's frames, drawn by compiled code straight at the resolution that is needed.

A frame is a stack of filled polygons seen through a camera: the field, its grass squares, the road, the car.
Here each polygon is filled, row by row, into a small image of colour numbers with `samples` x `samples`
points a pixel; what lies outside the picture and the rows under the status bar are never touched. One sample
at the pixel's centre is what the published CarRacing-v0 did; many samples, averaged, are what Gymnasium's
CarRacing-v3 comes to, which draws large and shrinks.

The result is rows 0-83 of the 96x96 frame, which resize.py shrinks to the 64x64 observation.
"""

import math

import numpy as np
from gymnasium.envs.box2d.car_racing import GRASS_DIM, PLAYFIELD

from world_models.tasks.compiled import compiled

Array = np.ndarray
FIELD_SIDE, GRASS_SIDE = 2 * PLAYFIELD, GRASS_DIM  # of the field and of a square of grass, in world units
FRAME = 96  # pixels: width of the frame, and its height with the status bar
ROWS = 84  # rows above the status bar

# Colour numbers: rows of a palette, uint8 (ROAD + N, 3). Those from ROAD on are the N polygons of the road.
BLACK, FIELD, GRASS, WHEEL, WHEEL_WHITE, HULL, ROAD = range(7)


@compiled
def _fill(image, xs, ys, count, colour, crossing, found):
    """Fills an even-odd polygon whose vertices are in sample coordinates (sample k lies at k + 0.5).

    `crossing` (rows, 16) and `found` (rows,) are scratch: where the polygon's edges cross each row.
    """
    height, width = image.shape
    top, bottom = ys[0], ys[0]
    left, right = xs[0], xs[0]
    for k in range(1, count):
        top, bottom = min(top, ys[k]), max(bottom, ys[k])
        left, right = min(left, xs[k]), max(right, xs[k])
    if right <= 0 or left >= width or bottom <= 0 or top >= height:
        return
    first = max(0, math.ceil(top - 0.5))
    last = min(height, math.ceil(bottom - 0.5))
    for row in range(first, last):
        found[row] = 0
    for k in range(count):
        m = k + 1 if k + 1 < count else 0
        if ys[k] == ys[m]:
            continue
        if ys[k] < ys[m]:
            x, y, end, slope = xs[k], ys[k], ys[m], (xs[m] - xs[k]) / (ys[m] - ys[k])
        else:
            x, y, end, slope = xs[m], ys[m], ys[k], (xs[k] - xs[m]) / (ys[k] - ys[m])
        for row in range(max(0, math.ceil(y - 0.5)), min(height, math.ceil(end - 0.5))):
            n = found[row]
            found[row] = n + 1
            at = x + slope * (row + 0.5 - y)
            while n > 0 and crossing[row, n - 1] > at:
                crossing[row, n] = crossing[row, n - 1]
                n -= 1
            crossing[row, n] = at
    for row in range(first, last):
        line = image[row]
        for pair in range(0, found[row] - 1, 2):
            a = max(0, math.ceil(crossing[row, pair] - 0.5))
            b = min(width, math.ceil(crossing[row, pair + 1] - 0.5))
            for column in range(b - a):
                line[a + column] = colour


@compiled
def _square(image, camera, left, low, side, colour, xs, ys, crossing, found):
    a, b, c, d, e, f = camera
    for k in range(4):
        x = left + (side if k in (0, 3) else 0.0)
        y = low + (side if k >= 2 else 0.0)
        xs[k] = a * x - b * y + c
        ys[k] = d * x + e * y + f
    _fill(image, xs, ys, 4, colour, crossing, found)


@compiled
def _ground(image, camera, xs, ys, crossing, found):
    """The field, and those of its 20 x 20 squares that the picture's corners enclose."""
    a, b, c, d, e, f = camera
    grass = GRASS_SIDE
    _square(image, camera, -FIELD_SIDE / 2, -FIELD_SIDE / 2, FIELD_SIDE, FIELD, xs, ys, crossing, found)
    left = low = np.inf
    right = high = -np.inf
    for corner in range(4):
        u = (image.shape[1] if corner & 1 else 0) - c
        v = (image.shape[0] if corner & 2 else 0) - f
        x = (e * u + b * v) / (a * e + b * d)
        y = (a * v - d * u) / (a * e + b * d)
        left, right, low, high = min(left, x), max(right, x), min(low, y), max(high, y)
    for i in range(max(0, int(left / (2 * grass) + 9)), min(20, int(right / (2 * grass) + 11))):
        for j in range(max(0, int(low / (2 * grass) + 9)), min(20, int(high / (2 * grass) + 11))):
            _square(image, camera, grass * (2 * i - 20), grass * (2 * j - 20), grass, GRASS, xs, ys, crossing, found)


def reach_of(road: np.ndarray) -> float:
    """How far the vertices of a road polygon lie at most from its first: road (N, 4, 2) -> world units."""
    return float(np.sqrt(((road - road[:, :1]) ** 2).sum(axis=-1).max()))


@compiled
def draw(
    image: Array, camera: Array, road: Array, reach: float, car: Array, car_sides: Array, car_colour: Array
) -> None:
    """Draws colour numbers, in the release's order: field, grass, road, car.

    Args:
        image: uint16 (rows, columns) of samples, overwritten.
        camera: float64 (6,), (a, b, c, d, e, f): column = a x - b y + c, row = d x + e y + f, in samples.
        road: float64 (N, 4, 2), world coordinates in drawing order; polygon n has colour number ROAD + n.
        reach: no vertex of a road polygon lies further from its first.
        car: float64 (M, V, 2), world coordinates; `car_sides` (M,) how many of the V are in use (0: skip).
        car_colour: (M,) colour numbers.
    """
    xs, ys = np.empty(16), np.empty(16)
    crossing, found = np.empty((image.shape[0], 16)), np.empty(image.shape[0], np.int64)
    image[:] = BLACK
    _ground(image, camera, xs, ys, crossing, found)
    a, b, c, d, e, f = camera
    # Most polygons of the road are out of sight; a test of the first vertex skips them.
    margin_x, margin_y = reach * math.hypot(a, b), reach * math.hypot(d, e)
    width, height = image.shape[1] + margin_x, image.shape[0] + margin_y
    for n in range(len(road)):
        x, y = road[n, 0, 0], road[n, 0, 1]
        column, row = a * x - b * y + c, d * x + e * y + f
        if column < -margin_x or column > width or row < -margin_y or row > height:
            continue
        for k in range(4):
            x, y = road[n, k, 0], road[n, k, 1]
            xs[k] = a * x - b * y + c
            ys[k] = d * x + e * y + f
        _fill(image, xs, ys, 4, ROAD + n, crossing, found)
    for n in range(len(car)):
        sides = car_sides[n]
        for k in range(sides):
            x, y = car[n, k, 0], car[n, k, 1]
            xs[k] = a * x - b * y + c
            ys[k] = d * x + e * y + f
        if sides:
            _fill(image, xs, ys, sides, car_colour[n], crossing, found)


@compiled
def shade(image: np.ndarray, palette: np.ndarray, samples: int, frame: np.ndarray) -> None:
    """Averages the samples of each pixel, 1 or 4 x 4: `image` of colour numbers -> `frame` (ROWS, FRAME, 3)."""
    if samples == 1:
        for row in range(frame.shape[0]):
            for column in range(frame.shape[1]):
                n = image[row, column]
                frame[row, column, 0] = palette[n, 0]
                frame[row, column, 1] = palette[n, 1]
                frame[row, column, 2] = palette[n, 2]
        return
    # Four samples of 16 bits are one word, so that four comparisons find a pixel of one colour.
    words = image.view(np.uint64)
    for row in range(frame.shape[0]):
        for column in range(frame.shape[1]):
            top, left = row * 4, column * 4
            n = image[top, left]
            word = words[top, column]
            same = word == n * np.uint64(0x0001000100010001)
            for i in range(1, 4):
                same &= words[top + i, column] == word
            a, b, c = np.int32(palette[n, 0]), np.int32(palette[n, 1]), np.int32(palette[n, 2])
            if not same:
                a = b = c = np.int32(0)
                for i in range(4):
                    for j in range(4):
                        n = image[top + i, left + j]
                        a += palette[n, 0]
                        b += palette[n, 1]
                        c += palette[n, 2]
                a, b, c = a // 16, b // 16, c // 16
            frame[row, column, 0] = a
            frame[row, column, 1] = b
            frame[row, column, 2] = c


@compiled
def pose_car(
    bodies: Array, wheel: Array, hull: Array, hull_sides: Array, white: tuple, car: Array, car_sides: Array
) -> None:
    """The car's polygons in the release's drawing order: each wheel, the white of its tyre, then the hull and the blob.

    Args:
        bodies: float64 (5, 4), x, y, angle of the four wheels and of the hull, and how far each has rolled, in
            radians; of the hull's it takes no notice.
        wheel: float64 (4, 2), hull: (N, 8, 2) with the first `hull_sides` (N,) in use: outlines in the body's frame.
        white: (half width, radius) of a wheel.
        car, car_sides: written; (8 + N, 8, 2) and (8 + N,), as `draw` takes them.
    """
    for k in range(4):
        cos, sin = math.cos(bodies[k, 2]), math.sin(bodies[k, 2])
        for v in range(4):
            x, y = wheel[v, 0], wheel[v, 1]
            car[2 * k, v, 0] = bodies[k, 0] + cos * x - sin * y
            car[2 * k, v, 1] = bodies[k, 1] + sin * x + cos * y
        car_sides[2 * k] = 4
        # The stripe that rolls round the tyre; it is out of sight while both its edges are below.
        s1, c1 = math.sin(bodies[k, 3]), math.cos(bodies[k, 3])
        s2, c2 = math.sin(bodies[k, 3] + 1.2), math.cos(bodies[k, 3] + 1.2)
        if s1 > 0 and s2 > 0:
            car_sides[2 * k + 1] = 0
            continue
        if s1 > 0:
            c1 = np.sign(c1)
        if s2 > 0:
            c2 = np.sign(c2)
        for v in range(4):
            x = -white[0] if v in (0, 3) else white[0]
            y = white[1] * (c1 if v < 2 else c2)
            car[2 * k + 1, v, 0] = bodies[k, 0] + cos * x - sin * y
            car[2 * k + 1, v, 1] = bodies[k, 1] + sin * x + cos * y
        car_sides[2 * k + 1] = 4
    cos, sin = math.cos(bodies[4, 2]), math.sin(bodies[4, 2])
    for k in range(len(hull_sides)):
        for v in range(hull_sides[k]):
            x, y = hull[k, v, 0], hull[k, v, 1]
            car[8 + k, v, 0] = bodies[4, 0] + cos * x - sin * y
            car[8 + k, v, 1] = bodies[4, 1] + sin * x + cos * y
        car_sides[8 + k] = hull_sides[k]


CAR_COLOUR = np.array([WHEEL, WHEEL_WHITE] * 4 + [HULL] * 5)
