"""Batches of episodes of unequal lengths: end to end in long streams, with M's state carried along
(doomrnn/rnn_train.py)."""

import itertools
from collections.abc import Iterator

import numpy as np

from rnn.data import LatentDataset, Windows
from vae.data import epoch_episodes
from world_models import seeds, tasks
from world_models.config import Config, UserError


class Streams:
    """Every epoch the episodes are shuffled and joined, cut into `batch` streams, and those into pieces.

    Args:
        latents: the episodes.
        batch, length: streams, and steps a piece; `length` + 1 frames are taken, the last being the next
            piece's first.
        seed: the run's.
        old, new_share: how many of the episodes, the first, are of earlier rounds, and the others' share of frames.
    """

    def __init__(
        self, latents: LatentDataset, batch: int, length: int, seed: int, old: int = 0, new_share: float = 1.0
    ):
        self.latents, self.batch, self.length, self.seed = latents, batch, length, seed
        self.old, self.new_share = old, new_share
        frames = int(latents.lengths[old:].sum())
        if old:
            # As many as any epoch has, whichever old episodes it draws: all epochs have the same number of pieces.
            room = int(frames * (1 / new_share - 1))
            frames += max(0, min(int(latents.lengths[:old].sum()), room - int(latents.lengths[:old].max())))
        self.stream = frames // batch
        self.pieces = (self.stream - 1) // length  # batches an epoch
        if self.pieces < 1:
            raise UserError(
                f"{frames} frames are recorded, too few for --rnn-batch {batch} streams of --rnn-length {length}"
            )

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's frames: indices into the latents (batch, stream), and 1 where an episode starts."""
        rng = seeds.generator(self.seed, "streams", epoch)
        episodes = epoch_episodes(self.latents.lengths, self.old, self.new_share, rng)
        index = np.concatenate(
            [np.arange(self.latents.starts[k], self.latents.starts[k] + self.latents.lengths[k]) for k in episodes]
        )
        restart = np.isin(index, self.latents.starts).astype(np.float32)
        shape = (self.batch, self.stream)
        size = self.batch * self.stream
        return index[:size].reshape(shape), restart[:size].reshape(shape)

    def __call__(self, first: int) -> Iterator[tuple]:
        """Batches from step `first` on: (is_first, mu, logvar, action, restart, end, reward, valid), time first;
        `is_first`: M's state starts from zero, as at the first piece of an epoch."""
        for number in itertools.count(first):
            epoch, piece = divmod(number, self.pieces)
            if piece == 0 or number == first:
                index, restart = self.order(epoch)
            frames = slice(piece * self.length, (piece + 1) * self.length + 1)
            yield piece == 0, *self.latents.frames(index[:, frames].T, restart[:, frames].T[..., None])


def batches_of(latents: LatentDataset, config: Config) -> Streams | Windows:
    """The batches that M learns from, of the kind that the task has. UserError if there are too few frames."""
    kind = Streams if tasks.get(config.task).stops_at_end else Windows
    old = config.linked_episodes * (2 if config.mirror == "yes" else 1)
    return kind(latents, config.rnn_batch, config.rnn_length, config.seed, old, config.new_share)
