"""Doom's game files (WAD): pieces of data, called lumps, one after the other, and a directory of their names."""

import struct


def read(data: bytes) -> list[tuple[str, bytes]]:
    """The lumps of a file in their order, as (name, content)."""
    _, count, directory = struct.unpack_from("<4sii", data)
    entries = [struct.unpack_from("<ii8s", data, directory + 16 * k) for k in range(count)]
    return [(name.split(b"\0")[0].decode("ascii"), data[start : start + size]) for start, size, name in entries]


def write(lumps: list[tuple[str, bytes]]) -> bytes:
    """The file of these lumps, a PWAD: an engine loads it over the game's own file."""
    content, entries = b"", b""
    for name, data in lumps:
        entries += struct.pack("<ii8s", 12 + len(content), len(data), name.encode("ascii"))
        content += data
    return struct.pack("<4sii", b"PWAD", len(lumps), 12 + len(content)) + content + entries
