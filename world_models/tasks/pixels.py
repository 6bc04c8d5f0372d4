"""From a game's frame to the observation: what the paper says, and what the release really did."""

from collections.abc import Callable

import numpy as np

PIXELS = ("paper", "release")
SIZE = 64  # pixels: side of the observation


def choose(name: str, value: str, known: tuple[str, ...]) -> str:
    """Returns `value` if it is one of `known`; raises ValueError naming all three otherwise."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    return value


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
