"""From a game's frame to the observation: what the paper says, and what the release really did."""

from collections.abc import Callable

import numpy as np

from world_models.config import UserError

PIXELS = ("paper", "release")
SIZE = 64  # pixels: side of the observation
ROUNDING = 1e-3  # by which floats of a picture may miss 0 to 1


def choose(name: str, value: str, known: tuple[str, ...]) -> str:
    """Returns `value` if it is one of `known`; raises ValueError naming all three otherwise."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    return value


def rgb(picture: object) -> np.ndarray:
    """What a `render` returned -> uint8 (H, W, 3).

    Grey (H, W) or (H, W, 1) is repeated, and the alpha of (H, W, 4) is dropped. Floats from 0 to 1 are scaled to 0 to
    255. Integers of any type must lie in 0 to 255.

    Raises:
        UserError: of anything else, with its type and shape.
    """
    expected = "render(): expected uint8 (H, W, 3), (H, W, 4) or (H, W), or floats from 0 to 1 of such a shape"
    if picture is None or isinstance(picture, list | tuple):
        raise UserError(f"{expected}, found {'None' if picture is None else f'a {type(picture).__name__}'}")
    array = np.asarray(picture)
    found = f"{expected}, found {array.dtype} {array.shape}"
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size or array.dtype.kind not in "fiu":
        raise UserError(found)
    if array.dtype != np.uint8:
        low, high, most = array.min(), array.max(), 1 if array.dtype.kind == "f" else 255
        if not (low >= -ROUNDING and high <= most + ROUNDING):  # NaN is neither
            raise UserError(f"{found} with values from {low:g} to {high:g}")
        array = np.clip(array.astype(np.float64) * (255 / most) + 0.5, 0, 255).astype(np.uint8)
    return array[..., :3] if array.shape[2] > 1 else np.repeat(array, 3, axis=2)


def shrink(frame: np.ndarray, pixels: str, resize: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A cropped frame (H, W, 3) -> the observation (64, 64, 3), both uint8.

    "paper": `resize`, Pillow's bilinear. "release": the contrast stretched before it, and black turned white
    after it; the released weights need both.
    """
    if pixels == "paper":
        return resize(frame)
    return wrap_black(resize(stretch(frame, int(frame.min()), int(frame.max()))))


def stretch(colors: np.ndarray, low: int, high: int) -> np.ndarray:
    """Stretches uint8 colours from low..high to 0..255, as scipy's `imresize` did to floats before resizing."""
    stretched = (colors.astype(np.float64) - low) * (255.0 / max(high - low, 1)) + 0.5
    return np.clip(stretched, 0, 255).astype(np.uint8)


def wrap_black(observation: np.ndarray) -> np.ndarray:
    """The release's `(1 - o) * 255` cast to uint8: (o - 1) mod 256, so that black turns white."""
    return observation - np.uint8(1)
