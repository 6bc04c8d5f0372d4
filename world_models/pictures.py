"""Pictures of frames that explain themselves: sheets with labels and an axis, and titled panels of films."""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import imageio
import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from world_models.config import UserError
from world_models.runs.files import atomic_write

SCALE, PANEL = 2, 4  # times as large as a frame: on a sheet, in a film
GAP, MARGIN, LINE = 6, 8, 18  # pixels between frames, around them, of a line of text
font_of = cache(ImageFont.load_default)  # by its size in points
INK, PAPER, FRAME = (20, 20, 20), (255, 255, 255), (136, 136, 136)


class Row(NamedTuple):
    """A row of a sheet: its label, its frames (N, 64, 64, 3), uint8 or in 0..1, and a word under each frame, which says
    when it was, or how well it is reconstructed; empty: none."""

    label: str
    frames: np.ndarray
    ticks: tuple[str, ...] = ()


def to_uint8(frames: np.ndarray) -> np.ndarray:
    """Frames in 0..1 (or already uint8) -> uint8."""
    if frames.dtype == np.uint8:
        return frames
    return (np.clip(frames, 0, 1) * 255 + 0.5).astype(np.uint8)


def paste(image: Image.Image, draw: ImageDraw.ImageDraw, frame: np.ndarray, scale: int, x: int, y: int) -> None:
    """Puts an enlarged frame into a picture, with a line around it: else a white frame has no edge."""
    part = Image.fromarray(to_uint8(frame))
    part = part.resize((part.width * scale, part.height * scale), Image.Resampling.NEAREST)
    draw.rectangle((x - 1, y - 1, x + part.width, y + part.height), outline=FRAME)
    image.paste(part, (x, y))


def save_sheet(path: Path, rows: list[Row], title: str, axis: str) -> None:
    """Writes rows of frames as PNG, with gaps between them, their labels at the left and their ticks below. The title
    stands above all, and `axis`, which says what the ticks are, below all."""
    font = ImageFont.load_default(13)
    side = rows[0].frames.shape[1] * SCALE
    left = MARGIN + max(round(font.getlength(row.label)) for row in rows) + MARGIN
    width = left + max(len(row.frames) for row in rows) * (side + GAP) - GAP + MARGIN
    width = max(width, round(font.getlength(title)) + 2 * MARGIN)
    height = sum(side + GAP + LINE * bool(row.ticks) for row in rows) + 2 * LINE
    image = Image.new("RGB", (width, height + 2 * MARGIN), PAPER)
    draw, y = ImageDraw.Draw(image), MARGIN + LINE
    draw.text((MARGIN, MARGIN), title, INK, font)
    for row in rows:
        draw.text((MARGIN, y + side / 2), row.label, INK, font, anchor="lm")
        for k, frame in enumerate(row.frames):
            paste(image, draw, frame, SCALE, left + k * (side + GAP), y)
        y += side
        for k, tick in enumerate(row.ticks):
            draw.text((left + k * (side + GAP) + side / 2, y + 2), tick, INK, font, anchor="ma")
        y += GAP + LINE * bool(row.ticks)
    draw.text((left, y), axis, INK, font)
    with atomic_write(path) as tmp:
        image.save(tmp, format="PNG")


def fitted(text: str, width: int, size: int) -> Any:
    """The largest font of at most `size` points in which a text is at most `width` pixels wide."""
    fonts = map(font_of, range(size, 6, -1))
    return next((font for font in fonts if font.getlength(text) <= width), font_of(6))


def panels(titles: Sequence[str], frames: Sequence[np.ndarray], notes: Sequence[str], scale: int = PANEL) -> np.ndarray:
    """One picture of a film: frames (64, 64, 3) next to each other, `scale` times as large, each with a title above
    and a note below. A text that is too long for its panel is smaller.

    Returns uint8 (H, W, 3), H and W multiples of 16, as video codecs need them.
    """
    side = frames[0].shape[0] * scale
    width, height = len(frames) * (side + 2 * MARGIN), side + 48
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    for k, (title, frame, note) in enumerate(zip(titles, frames, notes, strict=True)):
        left = k * (side + 2 * MARGIN) + MARGIN
        draw.text((left, 12), title, INK, fitted(title, side, 11 + scale), anchor="lm")
        paste(image, draw, frame, scale, left, 24)
        draw.text((left, side + 36), note, INK, fitted(note, side, 11 + scale), anchor="lm")
    return np.asarray(image)


def write_film(path: Path, pictures: Iterable[np.ndarray], fps: int) -> None:
    """Writes pictures, uint8 (H, W, 3), as a GIF or, by the name's ending, an mp4, which ffmpeg makes. UserError if it
    does not finish."""
    by_ffmpeg, count = path.suffix != ".gif", 0
    with atomic_write(path) as tmp:
        try:
            options: dict[str, Any] = {"fps": fps} | ({"quality": 4} if by_ffmpeg else {})
            film: Any = imageio.get_writer(tmp, **options)
            with film as writer:
                for picture in pictures:
                    count += 1
                    writer.append_data(picture)
            # Nobody asks for ffmpeg's status as it closes the file: a full disk shows in what can be read of it.
            if by_ffmpeg and (found := imageio_ffmpeg.count_frames_and_secs(tmp)[0]) != count:
                raise RuntimeError(f"{found} of {count} frames were written")
        except (OSError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            first = str(error).partition("\n")[0].rstrip(":")
            raise UserError(f"{path}: ffmpeg has not finished the film; the disk may be full: {first}") from None
