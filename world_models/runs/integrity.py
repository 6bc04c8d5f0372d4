"""Whether a file is what it should be: finite numbers, its own digest, and a record of what it was made from.

Weights and JSON files hold a digest of their content; an npz needs none, since its zip has a checksum for each array.
Whatever is derived from V or M also says from which, by their digests (`made_from`). Files that were written before
records were kept are read (`run_dir.report_unchecked` says so), unless what they would be derived from has a record.
"""

import hashlib
import json
import math
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from world_models.config import UserError

MODELS = {"vae": ("V", "vae.weights.h5"), "rnn": ("M", "rnn.weights.h5")}
LENGTH = 16  # hexadecimal digits of a digest: enough to tell files apart, not to stop a forger
# What reading a damaged or crafted npz, HDF5 or JSON file raises; other exceptions are faults of the program.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    RuntimeError,  # HDF5's own; of zip, what is encrypted or packed in an unknown way
    SyntaxError,  # numpy reads an array's header as Python
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def require_finite(where: object, arrays: dict[str, np.ndarray]) -> None:
    """UserError, beginning with `where`, that names the first array with NaN or infinity, or text, in it."""
    for name, values in arrays.items():
        if np.asarray(values).dtype.kind in "USMmOc":
            raise UserError(f"{where}: expected numbers, found {np.asarray(values).dtype} in {name}")
        if not np.isfinite(values).all():
            raise UserError(f"{where}: expected finite numbers, found NaN or infinity in {name}")


# JSON files


def read_json(path: Path) -> dict:
    """The object in a JSON file, without its digest; UserError if it is none, or not as it was written."""
    try:
        content = parse_object(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is broken: {error!r}") from None
    digest = content.pop("digest", None)
    if digest not in (None, json_digest(content)):
        raise UserError(
            f'{path} is not as it was written: its digest differs. If you changed it yourself, delete its "digest"'
        )
    return content


def parse_object(text: str) -> dict:
    """A JSON object; ValueError if it is none, or holds NaN or infinity, be it as 1e999."""
    content = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, found {type(content).__name__}")
    return content


def _refuse(name: str):
    raise ValueError(f"expected finite numbers, found {name}")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def is_number(value: object) -> bool:
    """Whether a value from JSON is a number, and one that a float can hold; True is none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def is_count(value: object) -> bool:
    """Whether a value from JSON is a whole number of 64 bits."""
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def is_text(value: object) -> bool:
    return isinstance(value, str)


def mistyped(content: dict, kinds: dict[str, Callable], optional: dict[str, Callable] | None = None) -> str:
    """What is wrong with an object's values, in words; "" if nothing is.

    Args:
        content: from JSON.
        kinds: what must be there: by name, whether a value is what it should be.
        optional: the same of what may be missing.
    """
    for name, fits in (kinds | (optional or {})).items():
        if name not in content:
            if name in kinds:
                return f"its {name} is missing"
        elif not fits(content[name]):
            return f"its {name} is {content[name]!r:.60}"
    return ""


def json_digest(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:LENGTH]


def sealed(content: dict) -> dict:
    """`content` with its digest, which `read_json` checks."""
    return {**content, "digest": json_digest(content)}


# Weights


def open_weights(path: Path, mode: str = "r"):
    """A weights file, open."""
    import h5py  # here, since the ranks that record random episodes need none

    return h5py.File(path, mode)


def weights_digest(path: Path) -> str:
    """Digest of a weights file's arrays: names, types, shapes and numbers. One of UNREADABLE if it is damaged, or if
    its arrays claim more than it holds: they are not compressed."""
    digest = hashlib.sha256()
    with open_weights(path) as file:
        names = sorted(weights_sizes(file))
        claimed, held = sum(file[name].nbytes for name in names), file.id.get_filesize()
        if claimed > held:
            raise ValueError(f"its arrays claim {claimed:,} bytes, the file has {held:,}")
        for name in names:
            values = file[name][()]
            digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()[:LENGTH]


def weights_sizes(file) -> dict[str, int]:
    """How many numbers each array of an open weights file has, by name."""
    import h5py

    sizes = {}
    file.visititems(lambda name, item: sizes.update({name: item.size} if isinstance(item, h5py.Dataset) else {}))
    return sizes


def stamp_weights(path: Path, made_from: dict) -> None:
    """Writes into a weights file its digest and what it was made from."""
    digest = weights_digest(path)
    with open_weights(path, "r+") as file:
        file.attrs.update({"digest": digest, "made_from": json.dumps(made_from)})


def check_weights(path: Path) -> dict | None:
    """What a weights file was made from; None if it is from before records were kept. UserError if it is damaged."""
    try:
        with open_weights(path) as file:
            digest, made_from = file.attrs.get("digest"), file.attrs.get("made_from")
        if digest is None:
            return None
        if digest == weights_digest(path):
            return parse_object(made_from)
    except UNREADABLE as error:
        raise UserError(f"{path} is damaged: {error}") from None
    raise UserError(f"{path} is damaged: its digest is not that of its numbers")


def has_record(path: Path) -> bool:
    """Whether a weights file says what it was made from."""
    with open_weights(path) as file:
        return "digest" in file.attrs


# What a file was made from


def digests(run: Path, *names: str) -> dict[str, str]:
    """Digests of a folder's V and M ("vae", "rnn"), as far as they are there. UserError if one is damaged."""
    found = {}
    for name in names:
        path = run / MODELS[name][1]
        if path.exists():
            try:
                found[name] = weights_digest(path)
            except UNREADABLE as error:
                raise UserError(f"{path} is damaged: {error}") from None
    return found


def record_array(made_from: dict) -> np.ndarray:
    """`made_from` as an array (1,), to be kept in an npz."""
    return np.array([json.dumps(made_from, sort_keys=True)])


def read_record(file) -> dict | None:
    """The record in an open npz; None if it is from before records were kept. ValueError if its parts differ."""
    if "made_from" not in file.files:
        return None
    found = set(file["made_from"].tolist())
    if len(found) != 1:
        raise ValueError("its parts were made from different things")
    return parse_object(found.pop())


def check_made_from(path: Path, found: dict | None, run: Path, models: tuple[str, ...], **settings) -> None:
    """UserError if a file was made from another V or M than the folder `run` holds, or with other settings.

    Args:
        path: the file.
        found: its record, a dict by name, None if it has none. What a record leaves out is not known, and passes.
        models: of "vae" and "rnn", what it is derived from.
        settings: what it was made with, by name.
    """
    remedy = f"delete it, or choose another --run than {run}"
    if not isinstance(found, dict | None):
        raise UserError(f"{path} does not say what it was made from: expected an object, found {found!r}; {remedy}")
    for name, value in settings.items():
        if (found or {}).get(name, value) != value:
            raise UserError(f"{path} is another run's: {name} {found[name]}, config.json says {value}; {remedy}")
    for name, digest in digests(run, *models).items():
        letter, file = MODELS[name]
        if found is None and has_record(run / file):
            raise UserError(f"{path} does not say from which {letter} it was made, as {file} would have it; {remedy}")
        if (found or {}).get(name, digest) != digest:
            raise UserError(f"{path} was made from another {letter} than {run / file}; {remedy}")
