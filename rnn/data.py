"""Episodes as sequences of (mu, logvar, action, reward, end), encoded once by V."""

import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from world_models.progress import bar as progress_bar
from world_models.runs import arrays, episodes, files
from world_models.runs.arrays import open_npz, reading, require_finite
from world_models.runs.run import Run

KINDS = {
    **dict.fromkeys(("mu", "logvar"), ("float16", (None, None))),
    "action": ("float32", (None, None)),
    "reward": ("float32", (None,)),
    **dict.fromkeys(("ends", "lengths"), ("int64", (None,))),
}
PART = 100  # episodes encoded between two savings


@dataclass
class LatentDataset:
    """All episodes of a run, end to end.

    Attributes:
        mu, logvar: float16 (N, Z), as the release stores them.
        action: float32 (N, A).
        reward: float32 (N,), the reward of each step.
        ends: int (E,), after how many steps each episode was over; more than its length if never.
        lengths: int (E,), frames of each episode; they sum to N.
        starts: int (E,), where each begins.
    """

    mu: np.ndarray
    logvar: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    ends: np.ndarray
    lengths: np.ndarray

    def __post_init__(self):
        self.starts = np.cumsum(self.lengths) - self.lengths

    @classmethod
    def read(cls, run: Run) -> "LatentDataset":
        """Maps a run's series.npz. UserError as in `Run.need`, or if it does not hold latents."""
        path = run.need("series.npz")
        with reading(path, "does not hold latents", "delete it and run train_rnn.py again"):
            latents = cls(*(mapped(path, name) for name in KINDS))
            latents.check()
        return latents

    def check(self) -> None:
        """ValueError unless the arrays fit each other."""
        rows = {name: len(getattr(self, name)) for name in KINDS}
        frames, episodes = rows["mu"], rows["lengths"]
        if self.logvar.shape != self.mu.shape or not rows["action"] == rows["reward"] == frames or not episodes:
            raise ValueError(f"rows of the arrays: {rows}")
        if rows["ends"] != episodes or min(self.lengths.min(), self.ends.min()) < 1 or self.lengths.sum() != frames:
            raise ValueError(f"{frames} frames, {rows['ends']} ends, episodes of {self.lengths.sum()} frames in all")

    def rewards(self) -> np.ndarray:
        """(N,) rewards, without those of frames that were recorded after an episode's end."""
        last = np.minimum(self.lengths, self.ends)
        return np.concatenate([self.reward[s : s + n] for s, n in zip(self.starts, last, strict=True)])

    def frames(self, index: np.ndarray, restart: np.ndarray) -> tuple:
        """What M learns from at the frames `index` (T, B): mu, logvar (T, B, Z), action (T, B, A), and, each
        (T, B, 1): restart as it came, end, 1 where the episode ended with the step, reward, and valid, 0 where it was
        over before."""
        episode = np.searchsorted(self.starts, index, side="right") - 1
        left = (self.starts + self.ends)[episode] - 1 - index  # steps until the one with which it ends
        outcome = (np.asarray(x, np.float32)[..., None] for x in (left == 0, self.reward[index], left >= 0))
        return self.mu[index], self.logvar[index], self.action[index], restart, *outcome


def mapped(path: Path, name: str) -> np.ndarray:
    """An array of an uncompressed npz, mapped instead of read: ten million frames need no memory of their own.

    ValueError if it holds anything but the numbers of its kind.
    """
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        member = archive.getinfo(f"{name}.npy")
        shape, columns_first, dtype, start = arrays.header(archive, member.filename)
        arrays.require_kind(name, shape, dtype, KINDS[name])
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        file.seek(member.header_offset + 26)  # lengths of the name and of the extra field, at the end of the header
        name_length, extra_length = struct.unpack("<HH", file.read(4))
        start += member.header_offset + 30 + name_length + extra_length
        return np.memmap(path, dtype, "r", start, shape, "F" if columns_first else "C")


def encode(run: Run, paths: list[Path], encoder: Callable, mirror: tuple[float, ...] | None = None) -> None:
    """Encodes recorded episodes into series.npz. An interrupted encoding goes on from the parts in series/.

    Args:
        run, paths: the run and its episodes.
        encoder: uint8 (B, 64, 64, 3) -> (mu, logvar), each (B, Z), for any B.
        mirror: factors (A,) that mirror an action. With them every episode is followed by its mirror image.
    """
    parts, v = [], run.digest("vae.weights.h5") or ""
    for first in progress_bar(range(0, len(paths), PART), desc="encoding episodes", unit="part"):
        part = run / "series" / f"{v[:8]}-{first:06d}.npz"  # parts of another V have other names
        parts.append(part)
        if part.exists():
            continue
        rows = []
        for path in paths[first : first + PART]:
            obs, action, reward, end = episodes.read(path)
            views = [(obs, action)]
            if mirror:
                views.append((np.ascontiguousarray(obs[:, :, ::-1]), action * np.array(mirror, np.float32)))
            for frames, actions in views:
                mu, logvar = (np.asarray(code, np.float16) for code in encoder(frames))
                require_finite(f"V's code of {path}", {"mu": mu, "logvar": logvar})
                rows.append((mu, logvar, actions, reward, np.array([end])))
        lengths = np.array([len(row[0]) for row in rows])
        columns = (*(np.concatenate(column) for column in zip(*rows, strict=True)), lengths)
        with files.atomic_write(part) as tmp, open(tmp, "wb") as file:
            np.savez(file, allow_pickle=False, **dict(zip(KINDS, columns, strict=True)))
    with run.write("series.npz") as tmp:
        join(parts, tmp)
    shutil.rmtree(run / "series")


def join(parts: list[Path], path: Path) -> None:
    """Joins files of arrays, name by name along the first axis, with one part in memory at a time."""

    def read(part: Path, name: str) -> np.ndarray:
        with reading(part, "is broken", "delete it, and run the same command again"), open_npz(part, KINDS) as file:
            return file[name]

    with zipfile.ZipFile(path, "w") as archive:
        for name in KINDS:
            first, count = read(parts[0], name), sum(len(read(part, name)) for part in parts)
            header = np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(first))
            with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                np.lib.format.write_array_header_1_0(out, header | {"shape": (count, *first.shape[1:])})
                for part in parts:
                    out.write(read(part, name).tobytes())
