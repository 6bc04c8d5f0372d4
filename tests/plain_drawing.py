"""CarRacing's slow reference drawings, which the tests compare with the compiled one."""

import numpy as np

from world_models.tasks import carracing_env, raster
from world_models.tasks.carracing_env import CarRacing


class PlainCarRacing(CarRacing):
    """CarRacing with a slow drawing: plain numpy for view v0, Gymnasium's own for view v3."""

    def _draw(self) -> np.ndarray:
        if self.view == "v3":
            frame = super(carracing_env.CarRacing, self)._render("state_pixels")
            return np.ascontiguousarray(frame[: raster.ROWS])
        compiled, raster.draw = raster.draw, draw
        try:
            return super()._draw()
        finally:
            raster.draw = compiled


def draw(image, camera, road, reach, car, car_sides, car_colour):
    """The same picture as `raster.draw`, in plain numpy: the last polygon that covers a sample gives its colour.

    It takes the same arguments, and does not need `reach`.
    """
    column = np.arange(image.shape[1]) + 0.5
    row = (np.arange(image.shape[0]) + 0.5)[:, None]
    field, grass = raster.FIELD_SIDE, raster.GRASS_SIDE
    squares = [(-field / 2, -field / 2, field, raster.FIELD)] + [
        (grass * x, grass * y, grass, raster.GRASS) for x in range(-20, 20, 2) for y in range(-20, 20, 2)
    ]
    polygons = [
        (np.array([(x + side, y), (x, y), (x, y + side), (x + side, y + side)]), colour)
        for x, y, side, colour in squares
    ]
    polygons += [(polygon, raster.ROAD + n) for n, polygon in enumerate(road)]
    polygons += [(car[n, : car_sides[n]], car_colour[n]) for n in range(len(car)) if car_sides[n]]

    image[:] = raster.BLACK
    a, b, c, d, e, f = camera
    for polygon, colour in polygons:
        x, y = polygon.T
        xs, ys = a * x - b * y + c, d * x + e * y + f
        if xs.max() < 0 or xs.min() > image.shape[1] or ys.max() < 0 or ys.min() > image.shape[0]:
            continue
        inside = np.zeros(image.shape, bool)
        for k in range(len(xs)):
            (y0, x0), (y1, x1) = sorted([(ys[k], xs[k]), (ys[k - 1], xs[k - 1])])
            if y0 < y1:
                at = x0 + (x1 - x0) / (y1 - y0) * (row - y0)
                inside ^= (y0 <= row) & (row < y1) & (column < at)
        image[inside] = colour
