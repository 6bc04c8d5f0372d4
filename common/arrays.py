"""npz files from anywhere: what an array claims to be is checked against the file before memory is taken for it."""

import math
import zipfile
from pathlib import Path

import numpy as np

LIMIT = 1 << 30  # bytes that a small file may hold compressed: 87,000 frames


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


def open_npz(path: Path) -> np.lib.npyio.NpzFile:
    """`numpy.load` of an npz, without pickle; ValueError as of `header`, or if it would fill the memory."""
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
        if total > max(LIMIT, path.stat().st_size):
            raise ValueError(f"it holds {total:,} bytes, more than {LIMIT:,}")
        for name in archive.namelist():
            header(archive, name)
    return np.load(path, allow_pickle=False)
