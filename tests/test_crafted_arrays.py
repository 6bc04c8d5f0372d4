"""Arrays from anywhere: files that lie about what they hold."""

import io
import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from small_run import episode_of

from rnn.data import LatentDataset
from vae.data import check_episodes, episode_length, episode_path
from world_models import signals
from world_models.runs import arrays
from world_models.runs.arrays import open_npz


def npy(descr: str, shape: tuple, content: bytes) -> bytes:
    """A .npy file that claims what it likes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def latents(path: Path, **changed: bytes) -> Path:
    """A file of two episodes of 3 and 4 frames, with some arrays replaced."""
    LatentDataset(
        np.zeros((7, 2), np.float16),
        np.zeros((7, 2), np.float16),
        np.zeros((7, 1), np.float32),
        np.zeros(7, np.float32),
        np.array([4, 5]),
        np.array([3, 4]),
    ).write(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, changed.get(name.removesuffix(".npy"), content))
    return path


def test_latents_of_numbers_are_mapped(tmp_path):
    read = LatentDataset.read(latents(tmp_path / "series.npz"), 2, 2)
    assert read.mu.shape == (7, 2) and read.starts.tolist() == [0, 3]


def test_a_signal_is_heard_while_files_are_checked(copied, monkeypatch):
    """Of ten thousand episodes, that takes minutes."""
    run, config = copied
    episode_of(run, 0, config)
    latents(run / "series.npz")
    monkeypatch.setattr(signals, "_note", [(int(signal.SIGTERM), 0.0)])
    for check in (
        lambda: check_episodes([episode_path(run, 0)], config),
        lambda: episode_length(episode_path(run, 0)),
        lambda: LatentDataset.read(run / "series.npz", 2, 2),
    ):
        with pytest.raises(signals.Stopped, match="the run is as before"):
            check()


CRAFTED = {
    "objects": {"mu": npy("|O", (7, 2), b"A" * 112)},  # pointers, to wherever the file says
    "object lengths": {"lengths": npy("|O", (2,), b"A" * 16)},
    "another type": {"mu": npy("<f4", (7, 2), b"\0" * 56)},
    "huge": {"mu": npy("<f2", (1 << 40, 2), b"\0" * 28)},  # 4 TiB
    "flat": {"mu": npy("<f2", (7,), b"\0" * 14)},
    "too few": {"reward": npy("<f4", (6,), b"\0" * 24)},
    "too long": {"lengths": npy("<i8", (2,), np.array([3, 5]).tobytes())},
    "negative": {"lengths": npy("<i8", (2,), np.array([-1, 8]).tobytes())},
    "ends": {"ends": npy("<i8", (1,), np.array([4]).tobytes())},
}


def test_crafted_latents_are_refused(tmp_path):
    """In a process of its own: objects were a segmentation fault."""
    paths = [str(latents(tmp_path / f"{name}.npz", **changed)) for name, changed in CRAFTED.items()]
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from world_models.config import UserError
from rnn.data import LatentDataset
for path in {paths!r}:
    try:
        data = LatentDataset.read(Path(path), 2, 2)
        print(data.frames(data.starts[None], None)[0], data.lengths)
    except UserError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert done.returncode == 0 and len(said) == len(CRAFTED), done
    assert all(f"{path} does not hold latents" in line for path, line in zip(paths, said, strict=True)), said


@pytest.mark.parametrize(
    "member, words",
    [
        (npy("|O", (1,), b"A" * 8), "holds objects"),
        (npy("|u1", (11 << 40,), b"A" * 8), "claims 12,094,627,905,536 bytes"),
        (npy("|u1", (-1,), b"A" * 8), "claims"),
        (npy("|u1", (2 << 30,), b"")[:128] + bytes(2 << 20), "claims"),
    ],
    ids=["objects", "11 TiB", "negative", "more than there is"],
)
def test_a_crafted_npz_is_refused_before_memory_is_taken(member, words, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("obs.npy", member)
    with pytest.raises(ValueError, match=words):
        open_npz(tmp_path / "a.npz")


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "LIMIT", 1 << 20)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, obs=np.zeros(2 << 20, np.uint8))
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="more than 1,048,576"):
        open_npz(path)


def test_an_honest_npz_is_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", obs=np.arange(5), source=np.array(json.dumps({"a": 1})), end=np.array(3))
    with open_npz(tmp_path / "a.npz") as file:
        assert file["obs"].tolist() == [0, 1, 2, 3, 4] and json.loads(str(file["source"])) == {"a": 1}
