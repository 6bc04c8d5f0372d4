"""Pillow's bilinear resize, to the bit, compiled for the frames of the two games.

Pillow (libImaging/Resample.c) passes across, then down, with weights of 22 bits behind the point, and rounds to
8 bits after each. Pictures here are small and many, and its own loop takes a third of Doom's time. Sums fit 32
bits: 255 << 22 < 2^31; numba's default is 64.

Widths are constants, not read off the arrays: only then does the compiler know that no index is negative, and
does many columns at once, which is four times as fast.
"""

import threading

import numpy as np

from world_models.tasks.compiled import compiled
from world_models.tasks.pixels import SIZE

HALF = np.int32(1 << 21)  # what rounding adds
WIDE = 3 * SIZE  # numbers in a row of the result; its three channels one after the other
PAIRS = SIZE // 2


def resize_weights(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray]:
    """The weights of Pillow's bilinear resize along one axis (libImaging/Resample.c, 8 bits a channel).

    Returns (first, weight): `first` (size_out,) int64, the first input index of each output, and `weight`
    (size_out, taps) int32, fixed-point numbers with 22 bits behind the point, zero-padded.
    """
    scale = size_in / size_out
    support = max(scale, 1.0)
    rows, first = [], []
    for out in range(size_out):
        centre = (out + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), size_in)
        weight = np.maximum(0.0, 1.0 - np.abs((np.arange(low, high) - centre + 0.5) / support))
        first.append(low)
        rows.append((weight / weight.sum() * (1 << 22) + 0.5).astype(np.int32))
    table = np.zeros((size_out, max(map(len, rows))), np.int32)
    for out, row in enumerate(rows):
        table[out, : len(row)] = row
        # Padding taps weigh nothing, but must stay inside the input.
        shift = max(0, first[out] + table.shape[1] - size_in)
        if shift:
            table[out] = np.roll(table[out], shift)
            first[out] -= shift
    return np.array(first, np.int64), table


@compiled
def _down(narrow, first, weight, sums, out_row):
    """One row of the pass down: `sums` (W,) of rows of `narrow` (rows, W)."""
    sums[:] = HALF
    for tap in range(weight.shape[1]):
        w = weight[out_row, tap]
        source = narrow[first[out_row] + tap]
        for k in range(WIDE):
            sums[k] += w * source[k]


def _thirds(weight: np.ndarray) -> np.ndarray:
    """What `_shrink_car` needs of the weights across, (SIZE, 3): int32 (4, 3).

    96 / 64 = 3 / 2, so that all even outputs have the same weights, and all odd ones; but the first and the
    last, which lie half outside. Rows: even, odd, first, last.
    """
    return weight[[2, 3, 0, -1]]


@compiled
def _shrink_car(frame, across, down_first, down, thirds, narrow, sums, out):
    """96 columns to 64, then any number of rows to 64.

    Outputs 2k and 2k + 1 lie over inputs 3k - 1 to 3k + 1 and 3k + 1 to 3k + 3. Every third input is gathered
    in a row of its own, and so is every second output until the end: each pass is then a sum of whole rows,
    of which a processor does many columns at once.
    """
    e0, e1, e2 = across[0, 0], across[0, 1], across[0, 2]
    o0, o1, o2 = across[1, 0], across[1, 1], across[1, 2]
    for row in range(frame.shape[0]):
        for k in range(PAIRS):
            for n in range(3):
                for channel in range(3):
                    thirds[n, channel * PAIRS + k + 1] = frame[row, 3 * k + n, channel]
        for k in range(WIDE // 2):
            total = HALF + e0 * thirds[2, k] + e1 * thirds[0, k + 1] + e2 * thirds[1, k + 1]
            narrow[row, 0, k] = np.int32(total) >> 22
        for k in range(WIDE // 2):
            total = HALF + o0 * thirds[1, k + 1] + o1 * thirds[2, k + 1] + o2 * thirds[0, k + 2]
            narrow[row, 1, k] = np.int32(total) >> 22
        for channel in range(3):  # where a row's neighbour is another channel
            k = channel * PAIRS
            narrow[row, 0, k] = (HALF + across[2, 0] * thirds[0, k + 1] + across[2, 1] * thirds[1, k + 1]) >> 22
            k += PAIRS - 1
            narrow[row, 1, k] = (HALF + across[3, 1] * thirds[1, k + 1] + across[3, 2] * thirds[2, k + 1]) >> 22
    flat, line = narrow.reshape(len(narrow), WIDE), sums.reshape(2, WIDE // 2)
    for row in range(out.shape[0]):
        _down(flat, down_first, down, sums, row)
        for k in range(PAIRS):
            for odd in range(2):
                for channel in range(3):
                    out[row, 2 * k + odd, channel] = line[odd, channel * PAIRS + k] >> 22


def _tens(first: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `_shrink_doom` needs of the weights of 640 columns on 64: int32 (10,) and (2, 20).

    Output k lies over inputs 10k - 5 to 10k + 14. All outputs have the same 20 weights, which are symmetric, but the
    first and the last, which lie partly outside.
    """
    ends = np.zeros((2, 20), np.int32)
    ends[0, 5:], ends[1, :15] = weight[0, :15], weight[-1, 5:]
    return weight[1, :10].copy(), ends


@compiled
def _shrink_doom(frame, colours, weights, ends, down_first, down, packed, tens, narrow, sums, out):
    """640 columns to 64, then any number of rows to 64. Every tenth input is gathered in a row of its own, as in
    `_shrink_car`. A colour is one number, so that a pixel costs one look-up: red + 256 green + 65,536 blue."""
    for row in range(frame.shape[0]):
        line = frame[row]
        for n in range(10):
            for k in range(SIZE):
                packed[n, k] = colours[line[10 * k + n]]
        for n in range(10):
            for k in range(SIZE):
                colour = packed[n, k]
                tens[n, k + 1] = colour & 255
                tens[n, SIZE + k + 1] = (colour >> 8) & 255
                tens[n, 2 * SIZE + k + 1] = colour >> 16
        sums[:] = HALF
        for n in range(5):
            outer, inner = weights[n], weights[n + 5]
            for k in range(WIDE):
                near, far = tens[n, k + 1] + tens[9 - n, k + 1], tens[n + 5, k] + tens[4 - n, k + 2]
                sums[k] += inner * near + outer * far
        for channel in range(3):
            k = channel * SIZE
            left, right = HALF, HALF
            for n in range(10):
                left += ends[0, n + 5] * tens[n, k + 1]
                right += ends[1, n + 5] * tens[n, k + SIZE]
            for n in range(5):
                left += ends[0, n + 15] * tens[n, k + 2]
                right += ends[1, n] * tens[n + 5, k + SIZE - 1]
            sums[k], sums[k + SIZE - 1] = left, right
        for k in range(WIDE):
            narrow[row, k] = sums[k] >> 22
    for row in range(out.shape[0]):
        _down(narrow, down_first, down, sums, row)
        for k in range(SIZE):
            for channel in range(3):
                out[row, k, channel] = sums[channel * SIZE + k] >> 22


_CAR = (_thirds(resize_weights(96, SIZE)[1]), *resize_weights(84, SIZE))
_DOOM = (*_tens(*resize_weights(640, SIZE)), *resize_weights(400, SIZE))


class Scratch(threading.local):
    """Preallocated buffers, thread-local: the picture between the two passes."""

    def __init__(self):
        self.sums = np.empty(WIDE, np.int32)
        self.thirds, self.halves = np.zeros((3, WIDE // 2 + 2), np.int32), np.empty((84, 2, WIDE // 2), np.int32)
        self.packed, self.tens = np.empty((10, SIZE), np.int32), np.zeros((10, WIDE + 2), np.int32)
        self.narrow = np.empty((400, WIDE), np.int32)


SCRATCH = Scratch()


def shrink_car(frame: np.ndarray) -> np.ndarray:
    """CarRacing's frame without its status bar, uint8 (84, 96, 3) -> (64, 64, 3)."""
    out = np.empty((SIZE, SIZE, 3), np.uint8)
    _shrink_car(frame, *_CAR, SCRATCH.thirds, SCRATCH.halves, SCRATCH.sums, out)
    return out


def shrink_doom(frame: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Doom's frame without its status bar, as indices uint8 (400, 640) of a palette uint8 (256, 3) -> the colours
    (64, 64, 3)."""
    out = np.empty((SIZE, SIZE, 3), np.uint8)
    colours = palette @ np.array([1, 1 << 8, 1 << 16], np.int32)
    _shrink_doom(frame, colours, *_DOOM, SCRATCH.packed, SCRATCH.tens, SCRATCH.narrow, SCRATCH.sums, out)
    return out
