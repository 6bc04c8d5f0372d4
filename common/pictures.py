"""Small pictures of frames: strips and pairs, as PNG."""

from pathlib import Path

import numpy as np
from PIL import Image

from common.run_dir import atomic_write


def to_uint8(frames: np.ndarray) -> np.ndarray:
    """Frames in 0..1 (or already uint8) -> uint8."""
    if frames.dtype == np.uint8:
        return frames
    return (np.clip(frames, 0, 1) * 255 + 0.5).astype(np.uint8)


def strip(frames: np.ndarray) -> np.ndarray:
    """(N, 64, 64, 3) -> one row of them, uint8 (64, N * 64, 3)."""
    return np.concatenate(list(to_uint8(frames)), axis=1)


def save_rows(path: Path, rows: list[np.ndarray], scale: int = 2) -> None:
    """Writes rows of frames, each (N, 64, 64, 3), under each other; `scale` times as large."""
    image = Image.fromarray(np.concatenate([strip(row) for row in rows], axis=0))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    with atomic_write(path) as tmp:
        image.save(tmp, format="PNG")


def save_pairs(path: Path, frames: np.ndarray, reconstructions: np.ndarray) -> None:
    """Frames above their reconstructions."""
    save_rows(path, [frames, reconstructions])
