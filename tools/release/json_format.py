"""The release's JSON files: lists of arrays, and what can be wrong with them."""

import json
import re
from pathlib import Path

import numpy as np

from world_models.config import UserError

SCALE = 10_000  # of a weight in JSON (get_model_params of the release)


def parse(path: Path) -> tuple[list, str]:
    """The values of a JSON list, as far as it is whole, and what was found instead of the next ("" if it is)."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not JSON: it is not text") from None
    position = len(text) - len(text.lstrip())
    if text[position : position + 1] != "[":
        raise UserError(f"{path}: expected a JSON list, found {text[position : position + 20]!r}")
    position += 1
    decode, between, values = json.JSONDecoder().raw_decode, re.compile(r"\s*,?\s*"), []
    # Value by value, so that the error for a truncated file names the array.
    while text[(position := between.match(text, position).end()) : position + 1] != "]":
        try:
            value, position = decode(text, position)
        except (ValueError, RecursionError) as error:  # ValueError too: thousands of digits
            stop = getattr(error, "pos", position)
            count = len(re.findall(r"[-\d][-+.\deE]*", text[position:stop]))
            stopped = "the end of the file" if stop >= len(text.rstrip()) - 1 else f"{text[stop : stop + 20]!r}"
            return values, f"{count} numbers and then {stopped}" if count else stopped
        values.append(value)
    rest = text[position + 1 :].strip()
    return values, f"{rest[:20]!r} after the list's end" if rest else ""


def read(path: Path, *layouts: dict[str, tuple]) -> dict[str, np.ndarray]:
    """The arrays of a file, by name, float64 and as they stand there; UserError if they are not what they should be.

    Args:
        path: the file.
        layouts: names and shapes, in the file's order, None for a length that is free. Where several are given
            the file may have any: the one whose first shape is the file's, or else the first.
    """
    values, trouble = parse(path)
    layout = next((k for k in layouts if values and rows(values[0]) == next(iter(k.values()))), layouts[0])
    names = list(layout)
    count = f"{len(names)} arrays"
    if len(values) < len(names):
        name = names[len(values)]
        expected = f"{path}: {name}, number {len(values) + 1} of {count}: expected shape {shown(layout[name])}"
        raise UserError(f"{expected}, found {trouble or 'the end of the list'}")
    if trouble or len(values) > len(names):
        raise UserError(f"{path}: expected {count} and the end of the list, found {trouble or f'{len(values)} arrays'}")
    return {name: array(f"{path}: {name}", value, layout[name]) for name, value in zip(names, values, strict=True)}


def array(label: str, value, shape: tuple) -> np.ndarray:
    """A JSON value as float64 of this shape (None: any length); UserError, beginning with `label`, otherwise."""
    expected = f"{label}: expected shape {shown(shape)}"
    if not only_numbers(value):  # before numpy gives every item the room of the longest text among them
        raise UserError(f"{expected} of numbers, found other things than numbers in it")
    try:
        found = np.array(value)
    except ValueError:
        raise UserError(f"{expected}, found rows of different lengths, the first {shown(rows(value))}") from None
    if found.dtype.kind not in "iuf":  # whole numbers of more than 64 bits
        raise UserError(f"{expected} of numbers, found shape {shown(found.shape)} with other things than numbers in it")
    if len(found.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found.shape, strict=True)):
        raise UserError(f"{expected}, found {shown(found.shape)}")
    with np.errstate(over="ignore"):
        finite = np.isfinite(found.astype(np.float32)).all()  # as models hold it
    if not finite:
        raise UserError(f"{expected} of finite numbers, found NaN, infinity or more than float32 holds")
    return found.astype(np.float64)


def read_scaled(path: Path, *layouts: dict[str, tuple]) -> dict[str, np.ndarray]:
    """As `read`, for files that hold 10000 times the numbers; float64, divided."""
    arrays = read(path, *layouts)
    for name, values in arrays.items():
        if (odd := values[values != np.rint(values)]).size:
            raise UserError(f"{path}: {name}: expected whole numbers, {SCALE} times the weights, found {odd[0]:g}")
    return {name: values / SCALE for name, values in arrays.items()}


def scaled(path: Path, arrays: dict[str, np.ndarray]) -> list:
    """Arrays as the release writes them: nested lists of round(10000 w). `path` is where they come from."""
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise UserError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
    return [np.rint(np.asarray(values, np.float64) * SCALE).astype(np.int64).tolist() for values in arrays.values()]


def only_numbers(value) -> bool:
    """Whether an array, a number or a nested list holds numbers alone."""
    waiting = [value.tolist() if isinstance(value, np.ndarray) else value]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, list):
            if type(item) not in (int, float):
                return False
        elif not set(map(type, item)) <= {int, float}:
            waiting.extend(item)
    return True


def rows(value) -> tuple[int, ...]:
    """The shape of a nested list, judged by the first item of each level."""
    shape = []
    while isinstance(value, list) and value:
        shape.append(len(value))
        value = value[0]
    return tuple(shape)


def shown(shape: tuple) -> str:
    """(None, 32) -> "(N, 32)"."""
    return str(tuple("N" if n is None else n for n in shape)).replace("'", "")


def write_list(values: list, path: Path) -> None:
    """A line for each array."""
    lines = ",\n".join(json.dumps(value, separators=(",", ":")) for value in values)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
