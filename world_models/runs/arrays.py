"""npz files from anywhere: what an array claims to be is checked against the file before memory is taken for it."""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import numpy as np

from world_models.config import UserError
from world_models.runs import files

# What reading a damaged or crafted npz, HDF5 or JSON file raises. Other exceptions are faults of the program.
UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, OverflowError),
    RuntimeError,  # HDF5's own, and zipfile's for encrypted members
    SyntaxError,  # numpy reads an array's header as Python
    *(tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error),
)
LIMIT = 1 << 30  # bytes that a small file may hold compressed: 87,000 frames
TEXT = 1 << 24  # bytes of a text
# What an array should be: its type or types, by numpy's names, and its shape, in which None is any length.
Kind = tuple[str, tuple[int | None, ...]]
FLOATS = "float16 float32 float64"
NUMBERS = f"{FLOATS} bool int8 int16 int32 int64 uint8 uint16 uint32 uint64"


@contextmanager
def reading(path: object, fault: str, remedy: str) -> Iterator[None]:
    """Context manager in which a file is read. If it is damaged or of another kind, that is a UserError: the path, the
    `fault`, the reason and the `remedy`."""
    try:
        yield
    except UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} {fault} ({reason:.200}); {remedy}") from None


def require_finite(where: object, arrays: Mapping[str, np.ndarray]) -> None:
    """UserError, beginning with `where`, that names the first array that holds NaN, infinity or no numbers."""
    for name, values in arrays.items():
        if (dtype := np.asarray(values).dtype).kind not in "fiub":
            raise UserError(f"{where}: expected numbers, found {dtype} in {name}")
        if not np.isfinite(values).all():
            raise UserError(f"{where}: expected finite numbers, found NaN or infinity in {name}")


def header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """An array's shape, whether its columns come first, its type, and where its numbers begin in the member `name`.

    ValueError if it holds objects, which would be code, or if its shape is not that of the bytes that are there.
    """
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        try:
            shape, columns_first, dtype = read(file)
        except MemoryError:  # of Python's parser, since numpy reads it as Python
            raise ValueError(f"the header of {name} is nested too deeply") from None
        start = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects, not numbers")
    size, held = math.prod(shape) * dtype.itemsize, archive.getinfo(name).file_size - start
    if size != held or any(length < 0 for length in shape):
        raise ValueError(f"{name} claims {size:,} bytes of shape {shape}, and holds {held:,}")
    return shape, columns_first, dtype, start


def require_kind(name: str, shape: tuple[int, ...], dtype: np.dtype, kind: Kind) -> None:
    """ValueError unless an array is of this kind."""
    types, expected = kind
    short = math.prod(shape) * dtype.itemsize <= TEXT
    fits = dtype.kind == "U" and short if types == "text" else any(dtype == np.dtype(one) for one in types.split())
    if not fits or len(shape) != len(expected) or any(n not in (None, m) for n, m in zip(expected, shape, strict=True)):
        lengths = str(tuple("N" if n is None else n for n in expected)).replace("'", "")
        what = "numbers" if types in (FLOATS, NUMBERS) else types
        raise ValueError(f"found {name} {dtype} {shape}, expected {what} of shape {lengths}")


def open_npz(
    path: Path, expected: Mapping[str, Kind] = MappingProxyType({}), limit: int | None = None
) -> np.lib.npyio.NpzFile:
    """`numpy.load` of an npz, without pickle, whose arrays are judged by their headers before memory is taken for one.

    ValueError as in `header`, if all together are more than `limit` bytes (by default: would fill the memory), or if
    one of the `expected` is of another kind. One that is missing is a KeyError when it is read.
    """
    files.require_regular(path)
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
        if limit is None:
            limit = max(LIMIT, path.stat().st_size)
        if total > limit:
            raise ValueError(f"it holds {total:,} bytes, more than {limit:,}")
        for member in archive.namelist():
            shape, _, dtype, _ = header(archive, member)
            if (name := member.removesuffix(".npy")) in expected:
                require_kind(name, shape, dtype, expected[name])
    return np.load(path, allow_pickle=False)
