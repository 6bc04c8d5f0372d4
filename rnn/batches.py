"""The batches that M learns from. Each is (is_first, mu, logvar, action, restart, end, reward, valid), time first;
`is_first`: M's state starts from zero."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rnn.data import LatentDataset
from vae.data import epoch_episodes
from world_models import seeds, tasks
from world_models.config import Config, UserError


@dataclass
class Batches:
    """What both kinds of batches need.

    Attributes:
        latents: the episodes.
        batch, length: rows, and steps a row; `length` + 1 frames are taken.
        seed: the run's.
        old, new_share: how many of the episodes, the first, are of earlier rounds, and the others' share of frames.
    """

    latents: LatentDataset
    batch: int
    length: int
    seed: int
    old: int = 0
    new_share: float = 1.0


@dataclass
class Windows(Batches):
    """Rows are windows of episodes, or complete episodes if they are as long (carracing/rnn_train.py)."""

    def __post_init__(self):
        usable = np.flatnonzero(self.latents.lengths > self.length)
        self.new, self.earlier = usable[usable >= self.old], usable[usable < self.old]
        # Where either has too few episodes for its share, the other fills the batch.
        self.news = max(min(round(self.batch * self.new_share), len(self.new)), self.batch - len(self.earlier))
        if len(usable) < self.batch:
            raise UserError(
                f"--rnn-batch {self.batch} episodes of over {self.length} frames: only {len(usable)} are recorded"
            )

    def __call__(self, first: int) -> Iterator[tuple]:
        """The batches from step `first` on."""
        for number in itertools.count(first):
            rng = seeds.generator(self.seed, "windows", number)
            chosen = rng.choice(self.new, self.news, replace=False)
            if self.news < self.batch:
                chosen = np.concatenate([chosen, rng.choice(self.earlier, self.batch - self.news, replace=False)])
            offset = rng.integers(0, self.latents.lengths[chosen] - self.length)
            index = (self.latents.starts[chosen] + offset)[None] + np.arange(self.length + 1)[:, None]
            restart = np.zeros((self.length + 1, self.batch, 1), np.float32)
            restart[0, :, 0] = offset == 0
            yield True, *self.latents.frames(index, restart)


@dataclass
class Streams(Batches):
    """Every epoch the episodes, of unequal lengths, are shuffled, joined end to end, cut into `batch` streams, and
    those into pieces, over which M's state is carried (doomrnn/rnn_train.py). The last frame of a piece is the next
    one's first."""

    def __post_init__(self):
        lengths, old = self.latents.lengths, self.old
        frames = int(lengths[old:].sum())
        if old:
            # As many as any epoch has, whichever old episodes it draws: all epochs have the same number of pieces.
            room = int(frames * (1 / self.new_share - 1))
            frames += max(0, min(int(lengths[:old].sum()), room - int(lengths[:old].max())))
        self.stream = frames // self.batch
        self.pieces = (self.stream - 1) // self.length  # batches an epoch
        if self.pieces < 1:
            shape = f"--rnn-batch {self.batch} streams of --rnn-length {self.length}"
            raise UserError(f"{frames} frames are recorded, too few for {shape}")

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's frames: indices into the latents (batch, stream), and 1 where an episode starts."""
        rng, starts, lengths = seeds.generator(self.seed, "streams", epoch), self.latents.starts, self.latents.lengths
        episodes = epoch_episodes(lengths, self.old, self.new_share, rng)
        index = np.concatenate([np.arange(starts[k], starts[k] + lengths[k]) for k in episodes])
        index = index[: self.batch * self.stream].reshape(self.batch, self.stream)
        return index, np.isin(index, starts).astype(np.float32)

    def __call__(self, first: int) -> Iterator[tuple]:
        """The batches from step `first` on; the state starts from zero at the first piece of an epoch."""
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
