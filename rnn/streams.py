"""Doom's batches: episodes end to end in long streams, with M's state carried along (doomrnn/rnn_train.py)."""

from collections.abc import Iterator

import numpy as np

from common import seeds
from config import UserError
from rnn.data import Series


class Streams:
    """Every epoch the episodes are shuffled and joined, cut into `batch` streams, and those into pieces.

    Args:
        series: the episodes.
        batch, length: streams, and steps a piece; `length` + 1 frames are taken, the last being the next
            piece's first.
        seed: the run's.
    """

    def __init__(self, series: Series, batch: int, length: int, seed: int):
        self.series, self.batch, self.length, self.seed = series, batch, length, seed
        self.stream = len(series.mu) // batch
        self.pieces = (self.stream - 1) // length  # batches an epoch
        if self.pieces < 1:
            raise UserError(
                f"{len(series.mu)} frames are recorded, too few for --rnn-batch {batch} streams of "
                f"--rnn-length {length}"
            )

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's frames: indices into the series (batch, stream), and 1 where an episode starts."""
        episodes = seeds.generator(self.seed, "streams", epoch).permutation(len(self.series.lengths))
        index = np.concatenate(
            [np.arange(self.series.starts[k], self.series.starts[k] + self.series.lengths[k]) for k in episodes]
        )
        restart = np.isin(index, self.series.starts).astype(np.float32)
        shape = (self.batch, self.stream)
        size = self.batch * self.stream
        return index[:size].reshape(shape), restart[:size].reshape(shape)

    def __call__(self, first: int) -> Iterator[tuple]:
        """Batches from step `first` on: (fresh, mu, logvar, action, restart), time first; `fresh` says that
        M's state starts from zero, which is so at the first piece of an epoch."""
        number = first
        while True:
            epoch, piece = divmod(number, self.pieces)
            if piece == 0 or number == first:
                index, restart = self.order(epoch)
            frames = slice(piece * self.length, (piece + 1) * self.length + 1)
            rows = index[:, frames].T
            yield (
                piece == 0,
                self.series.mu[rows],
                self.series.logvar[rows],
                self.series.action[rows],
                restart[:, frames].T[..., None],
            )
            number += 1
