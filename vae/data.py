"""Recorded episodes as batches of frames, streamed: memory does not grow with the number of episodes."""

import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from world_models import seeds, signals, tasks
from world_models.config import Config, UserError
from world_models.runs import config_file
from world_models.runs.arrays import header, open_npz
from world_models.runs.integrity import UNREADABLE, parse_object, require_finite

# What an episode's file holds; rewards, the end and where it came from are missing in those of older versions.
KINDS = {
    "obs": ("uint8", (None, 64, 64, 3)),
    "action": ("float32", (None, None)),
    "reward": ("float32", (None,)),
    "end": ("int64", ()),
    "mask": ("uint8", (None, 64, 64)),
    "source": ("text", ()),
}
POOL = 50_000  # frames shuffled together: 600 MB, and as much again while the next are read


def episode_path(run: Path, index: int) -> Path:
    return run / "record" / f"{index:06d}.npz"


def episodes(run: Path, count: int) -> list[Path]:
    """The run's recorded episodes, all `count` of them; UserError if some are missing."""
    paths = [episode_path(run, k) for k in range(count)]
    missing = sum(not path.exists() for path in paths)
    if missing:
        raise UserError(
            f"{run}/record holds {count - missing} of {count} episodes; record the rest with: "
            f"python extract.py --run {run}"
        )
    return paths


def broken(path: Path, error: object) -> UserError:
    return UserError(
        f"{path} is not a complete episode ({error}): expected obs uint8 (T, 64, 64, 3) and action float32 (T, A); "
        f"delete it, and record it again with: python extract.py --run {path.parent.parent}"
    )


def read_episode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns (obs uint8 (T, 64, 64, 3), action float32 (T, A)); UserError if the file is cut or misshapen."""
    try:
        with open_npz(path, KINDS) as file:
            obs, action = file["obs"], file["action"]
        if not len(obs) == len(action) > 0:
            raise ValueError(f"found obs {obs.shape}, action {action.shape}")
    except UNREADABLE as error:
        raise broken(path, error) from None
    require_finite(path, {"action": action})
    return obs, action


def origin(config: Config, index: int) -> dict:
    """What an episode's file says of where it is from."""
    names = ("task", "view", "pixels", "seed")
    settings = config_file.settings_digest(config, "episode")
    return {name: getattr(config, name) for name in names} | {"index": index, "settings": settings}


def read_source(path: Path) -> dict:
    """What an episode's file says of where it is from; {} if it says nothing. One of UNREADABLE if it is damaged."""
    with open_npz(path, KINDS) as file:
        return parse_object(str(file["source"])) if "source" in file.files else {}


def check_episodes(paths: list[Path], config: Config, **made_from) -> None:
    """UserError naming the first episode that has no frames, or is not of this run: its actions are of another size,
    or it says itself that it is another run's, or was made from another than `made_from` says. Reads headers alone."""
    size = tasks.get(config.task).action_size
    for path in paths:
        try:
            obs, action = shape_of(path, "obs"), shape_of(path, "action")
            found = read_source(path)
            if obs[:1] != action[:1] or not obs[0]:
                raise ValueError(f"found obs {obs}, action {action}")
            expected = {"held_out": False} | origin(config, int(path.stem)) | made_from
            if path.is_symlink() or path.parent.is_symlink():
                del expected["seed"]  # another run's, linked on purpose
            if path.is_symlink():
                del expected["settings"]  # an earlier round's
            odd = {name: found[name] for name, value in expected.items() if found.get(name, value) != value}
        except UNREADABLE as error:
            raise broken(path, error) from None
        if odd or action[1:] != (size,):
            said = "".join(f"; {name} {value}, expected {expected[name]}" for name, value in odd.items())
            raise UserError(
                f"{path} is not an episode of this run of {config.task}: actions of shape {action[1:]}, expected "
                f"{(size,)}{said}; delete it, and record it again with: python extract.py --run {path.parent.parent}"
                + (" --held-out N" if made_from else "")
            )


def read_frames(path: Path, masked: bool) -> np.ndarray:
    """An episode's frames, uint8 (T, 64, 64, 3); with `masked` (T, 64, 64, 4), the last being the mask of pixels that
    matter. UserError if the file is broken, or has no mask."""
    obs, _ = read_episode(path)
    if not masked:
        return obs
    mask = read_mask(path, len(obs))
    if mask is None:
        raise UserError(
            f"{path} has no mask for --vae-weight; delete it, and record it again with: "
            f"python extract.py --run {path.parent.parent}"
        )
    return np.concatenate([obs, mask[..., None]], axis=3)


def read_mask(path: Path, frames: int) -> np.ndarray | None:
    """The mask of pixels that matter of an episode of `frames` frames, uint8 (T, 64, 64), 255 where one does; None if
    it was recorded without. UserError if the file is broken."""
    try:
        with open_npz(path, KINDS) as file:
            if "mask" not in file.files:
                return None
            mask = file["mask"]
        if len(mask) != frames:
            raise ValueError(f"found {frames} frames, and a mask of {len(mask)}")
        return mask
    except UNREADABLE as error:
        raise broken(path, error) from None


def read_outcome(path: Path, frames: int, cut: int, stops: bool) -> tuple[np.ndarray | None, int]:
    """What came of an episode of `frames` frames.

    Episodes recorded before rewards were kept end with their last frame if the task `stops` at the end and they are
    shorter than `cut`, else never.

    Returns:
        The reward of each step, float32 (T,), or None; and after how many steps the episode was over, T + 1 if never.
    """
    try:
        with open_npz(path, KINDS) as file:
            if "reward" in file.files:
                reward, end = file["reward"], int(file["end"])
                if reward.shape != (frames,) or not np.isfinite(reward).all() or not 1 <= end <= frames + 1:
                    raise ValueError(f"found rewards {reward.shape} or of NaN, and end {end}")
                return reward, end
    except UNREADABLE as error:
        raise broken(path, error) from None
    return None, frames if stops and frames < cut else frames + 1


def shape_of(path: Path, name: str) -> tuple[int, ...]:
    """The shape of an array in an npz, without reading the array."""
    signals.stop("the episodes' files were being looked through, the run is as before")  # of many it takes minutes
    with zipfile.ZipFile(path) as archive:
        return header(archive, f"{name}.npy")[0]


def episode_length(path: Path) -> int:
    """Frames of an episode, from the file's header alone."""
    try:
        return shape_of(path, "obs")[0]
    except UNREADABLE as error:
        raise broken(path, error) from None


def epoch_episodes(lengths, old: int, new_share: float, rng: np.random.Generator) -> np.ndarray:
    """An epoch's episodes, in random order: all of them; or, if the first `old` are of earlier rounds, all the others
    and as many random ones of the old that the new have `new_share` of the frames.

    Args:
        lengths: (E,), frames of each episode.
    """
    order = rng.permutation(len(lengths))
    if not 0 < old < len(lengths):
        return order
    lengths = np.asarray(lengths)
    room = lengths[old:].sum() * (1 / new_share - 1)
    earlier = order[order < old]
    kept = earlier[np.cumsum(lengths[earlier]) <= room]
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
        masked: whether a frame has its mask of pixels that matter as a fourth channel.
    """

    def __init__(
        self, paths: list[Path], batch: int, seed: int, old: int = 0, new_share: float = 1.0, masked: bool = False
    ):
        self.masked, self.channels = masked, 4 if masked else 3
        self.paths, self.batch, self.seed, self.old, self.new_share = paths, batch, seed, old, new_share
        self.lengths = [episode_length(path) for path in paths]
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
        order = self.order(epoch)
        pools, size = [[]], 0
        for index in order:
            if size >= POOL:
                pools.append([])
                size = 0
            pools[-1].append(int(index))
            size += self.lengths[index]
        return pools

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[np.ndarray]:
        """The batches of one epoch, uint8 (batch, 64, 64, 3 or 4), without the first `skip`."""
        pools = self.pools(epoch)
        rest, left = 0, skip
        # Pools that a resumed training has used up are counted, not read.
        first = 0
        while first < len(pools) - 1:
            size = rest + sum(self.lengths[k] for k in pools[first])
            if size // self.batch > left:
                break
            left -= size // self.batch
            rest = size % self.batch
            first += 1
        carried = np.empty((0, 64, 64, self.channels), np.uint8)
        if rest:
            carried = self._pool(pools[first - 1], epoch, first - 1)[-rest:].copy()
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._pool, pools[first], epoch, first)
            for number in range(first, len(pools)):
                frames = ahead.result()
                if number + 1 < len(pools):
                    ahead = reader.submit(self._pool, pools[number + 1], epoch, number + 1)
                # What the last pool left over is joined to this one's first frames only: a pool is never copied.
                full = (len(carried) + len(frames)) // self.batch
                for k in range(left, full):
                    start = k * self.batch - len(carried)
                    end = start + self.batch
                    yield frames[start:end] if start >= 0 else np.concatenate([carried, frames[:end]])
                left = max(0, left - full)
                unused = frames[full * self.batch - len(carried) :] if full else np.concatenate([carried, frames])
                carried = unused.copy()

    def _pool(self, indices: list[int], epoch: int, number: int) -> np.ndarray:
        frames = np.empty((sum(self.lengths[k] for k in indices), 64, 64, self.channels), np.uint8)
        order = seeds.generator(self.seed, "pool", epoch, number).permutation(len(frames))
        start = 0
        for index in indices:
            obs = read_frames(self.paths[index], self.masked)
            frames[order[start : start + len(obs)]] = obs
            start += len(obs)
        return frames
