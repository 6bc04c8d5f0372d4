"""Recorded episodes: their files, where they come from, and links to those of another run."""

import json
import os
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from world_models.config import Config, UserError, fields_of
from world_models.runs import files
from world_models.runs.arrays import header, open_npz, reading, require_finite
from world_models.runs.artifacts import ARTIFACTS, EPISODE
from world_models.runs.manifest import digest_of, episode_digest
from world_models.runs.run import Run

# The arrays of an episode's file.
KINDS = {
    "obs": ("uint8", (None, 64, 64, 3)),
    "action": ("float32", (None, None)),
    "reward": ("float32", (None,)),
    "end": ("int64", ()),
    "source": ("text", ()),
}


def path_of(run: Run, index: int) -> Path:
    return run / "record" / EPISODE.format(index)


def source_of(config: Config, index: int) -> dict:
    """What an episode's file says of the run that records it. A run of more episodes begins with the same ones."""
    names = set(fields_of(*ARTIFACTS["record"].settings)) - {"episodes", "linked_episodes", "new_share"}
    settings = digest_of({name: getattr(config, name) for name in names})
    own = {name: getattr(config, name) for name in ("task", "view", "pixels", "seed")}
    return own | {"index": index, "settings": settings}


def write(path: Path, episode: dict[str, np.ndarray], source: dict) -> int:
    """Writes an episode and, as JSON, where it comes from. Returns its size in bytes. UserError if a number is not
    finite."""
    require_finite(path, {name: episode[name] for name in ("action", "reward")})
    files.require_no_link(path.parent)
    with files.atomic_write(path) as tmp, open(tmp, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **episode, source=np.array(json.dumps(source)))
    return path.stat().st_size


def link(run: Run, other: Run, digests: dict[str, str]) -> None:
    """Links another run's episodes, by relative paths, after a check that they are those that it recorded."""
    folder = run / "record"
    files.require_no_link(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in digests.items():
        require_same(other / "record" / name, digest)
        (folder / name).symlink_to(os.path.relpath((other / "record").resolve() / name, folder.resolve()))
    run.manifest.rows["linked"] = {"episodes": dict(digests), "made_from": {}}
    run.manifest.save()


def require_same(path: Path, digest: str) -> None:
    """UserError unless an episode's file is the one with this digest."""
    where = f"{path}, which leads to {path.resolve()}," if path.is_symlink() else path
    fault = "is not the episode that this run recorded or linked (its digest differs from manifest.json)"
    if not path.exists():
        fault = "is missing"
    else:
        with reading_episode(path):
            if episode_digest(path) == digest:
                return
    raise UserError(f"{where} {fault}; restore it, or record the episodes again in a new run")


def complete(run: Run) -> list[Path]:
    """The recorded episodes of a run, all of them and unchanged. UserError that names what is missing or changed."""
    if not run.is_current("record"):
        found = len(list((run / "record").glob("[0-9]*.npz")))
        held = f"{run}/record holds {found} of {run.config.total_episodes} episodes"
        raise UserError(f"{held}; record the rest with: {ARTIFACTS['record'].command(run.path)}")
    for name, digest in run.manifest.rows["record"]["episodes"].items():
        require_same(run / "record" / name, digest)
    return [path_of(run, index) for index in range(run.config.total_episodes)]


def missing(run: Run) -> list[int]:
    """The numbers of the run's own episodes that are not recorded yet. UserError if a linked one is missing or another
    one, or if a file is of another run."""
    for name, digest in run.manifest.rows.get("linked", {}).get("episodes", {}).items():
        require_same(run / "record" / name, digest)
    own = range(run.config.linked_episodes, run.config.total_episodes)
    found = [index for index in own if path_of(run, index).exists()]
    for index in found:
        check(path_of(run, index), run.config, index)
    return [index for index in own if index not in set(found)]


def check(path: Path, config: Config, index: int, **expected: Any) -> None:
    """UserError unless a file is an episode that this run has recorded as number `index`, by what it says itself."""
    source, wanted = read_source(path), source_of(config, index) | expected
    odd = [f"{k} {source.get(k)}, expected {value}" for k, value in wanted.items() if source.get(k) != value]
    if odd:
        fault = f"{path} is not an episode of this run of {config.task}: {'; '.join(odd)}"
        raise UserError(f"{fault}; delete it, and record it again with the same command")


def reading_episode(path: Path) -> AbstractContextManager[None]:
    expected = "expected obs uint8 (T, 64, 64, 3) and action float32 (T, A); delete it, and record it again with"
    return reading(path, "is not a complete episode", f"{expected}: python extract.py --run {path.parent.parent}")


class Recorded(NamedTuple):
    """A recorded episode: obs uint8 (T, 64, 64, 3); action float32 (T, A) and reward float32 (T,) of each step;
    and end, after how many steps it was over, T + 1 if never."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    end: int


def read(path: Path) -> Recorded:
    """Reads an episode. UserError if the file is cut or misshapen, or holds a number that is not finite."""
    with reading_episode(path), open_npz(path, KINDS) as file:
        obs, action, reward, end = file["obs"], file["action"], file["reward"], int(file["end"])
        lengths = [len(part) for part in (obs, action, reward)]
        if len(set(lengths)) > 1 or not 1 <= end <= len(obs) + 1 or not len(obs):
            raise ValueError(f"found arrays of lengths {lengths}, and end {end}")
    require_finite(path, {"action": action, "reward": reward})
    return Recorded(obs, action, reward, end)


def read_source(path: Path) -> dict:
    """What an episode's file says of where it comes from. UserError if the file is damaged."""
    with reading_episode(path), open_npz(path, KINDS) as file:
        return files.parse_object(str(file["source"]))


def length_of(path: Path) -> int:
    """The number of frames of an episode, from the file's header alone."""
    files.require_regular(path)
    with reading_episode(path), zipfile.ZipFile(path) as archive:
        return header(archive, "obs.npy")[0][0]
