"""Recorded episodes as batches of frames. They are streamed: memory does not grow with the number of episodes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from world_models import seeds
from world_models.config import UserError
from world_models.runs import episodes

POOL = 50_000  # frames shuffled together: 600 MB, and as much again while the next are read


def epoch_episodes(
    lengths: Sequence[int] | np.ndarray, old: int, new_share: float, rng: np.random.Generator
) -> np.ndarray:
    """An epoch's episodes, in random order: all of them; or, if the first `old` are of earlier rounds, all the others
    and as many random ones of the old that the new have `new_share` of the frames.

    Args:
        lengths: (E,), frames of each episode.
    """
    order = rng.permutation(len(lengths))
    if not 0 < old < len(lengths):
        return order
    frames = np.asarray(lengths)
    room = frames[old:].sum() * (1 / new_share - 1)
    earlier = order[order < old]
    kept = earlier[np.cumsum(frames[earlier]) <= room]
    return order[np.isin(order, kept) | (order >= old)]


class Frames:
    """All frames of some episodes, in random order, as batches.

    An epoch visits every episode once, or those that `epoch_episodes` chooses. Episodes are read in random order into
    pools of about POOL frames, and the frames of a pool are shuffled; the last frames of a pool that fill no batch go
    to the next.

    Args:
        paths: the episodes.
        batch: frames a batch.
        seed: the run's.
        old, new_share: how many of the episodes, the first, are of earlier rounds, and the others' share.
    """

    def __init__(self, paths: list[Path], batch: int, seed: int, old: int = 0, new_share: float = 1.0):
        self.paths, self.batch, self.seed, self.old, self.new_share = paths, batch, seed, old, new_share
        self.lengths = [episodes.length_of(path) for path in paths]
        if not self.steps(0):
            raise UserError(f"{sum(self.lengths)} frames are recorded, too few for one batch of {batch}")

    def order(self, epoch: int) -> np.ndarray:
        """An epoch's episodes, in order."""
        return epoch_episodes(self.lengths, self.old, self.new_share, seeds.generator(self.seed, "frames", epoch))

    def steps(self, epoch: int) -> int:
        """Batches of an epoch."""
        return int(np.take(self.lengths, self.order(epoch)).sum()) // self.batch

    def pools(self, epoch: int) -> list[list[int]]:
        """An epoch's episodes, in order, split where a pool is full."""
        pools: list[list[int]] = []
        size = POOL
        for index in self.order(epoch):
            if size >= POOL:
                pools.append([])
                size = 0
            pools[-1].append(int(index))
            size += self.lengths[index]
        return pools

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[np.ndarray]:
        """The batches of one epoch, uint8 (batch, 64, 64, 3), without the first `skip`."""
        pools = self.pools(epoch)
        ends = np.cumsum([sum(self.lengths[k] for k in pool) for pool in pools])  # in the frames of the epoch
        first = int(np.searchsorted(ends, skip * self.batch, side="right"))  # pools before it are not read again
        if first == len(pools):
            return
        start = skip * self.batch - (int(ends[first - 1]) if first else 0)  # of the next batch in the pool
        rest = np.empty((0, 64, 64, 3), np.uint8)
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._pool, pools[first], epoch, first)
            for number in range(first, len(pools)):
                frames = ahead.result()
                if number + 1 < len(pools):
                    ahead = reader.submit(self._pool, pools[number + 1], epoch, number + 1)
                # What the last pool left over is joined to this one's first frames only: a pool is never copied.
                for end in range(start + self.batch, len(frames) + 1, self.batch):
                    yield frames[start:end] if start >= 0 else np.concatenate([rest, frames[:end]])
                    start = end
                rest = frames[start:].copy() if start >= 0 else np.concatenate([rest, frames])
                start = -len(rest)

    def _pool(self, indices: list[int], epoch: int, number: int) -> np.ndarray:
        frames = np.empty((sum(self.lengths[k] for k in indices), 64, 64, 3), np.uint8)
        order = seeds.generator(self.seed, "pool", epoch, number).permutation(len(frames))
        start = 0
        for index in indices:
            obs = episodes.read(self.paths[index]).obs
            frames[order[start : start + len(obs)]] = obs
            start += len(obs)
        return frames
