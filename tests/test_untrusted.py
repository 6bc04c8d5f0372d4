"""Files that anybody may have written are read strictly, and refused in one line that names the file."""

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_run import edit_json, episode_of, new_run, size_of, small, trust

from controller.evolution import Evolution
from doom_rnn.dream import Starts
from rnn.data import LatentDataset
from tools.release import read_initial_z
from world_models import training
from world_models.config import UserError
from world_models.runs import arrays, config_file, episodes, files
from world_models.runs.agent import read_best
from world_models.runs.arrays import open_npz
from world_models.runs.run import Run

FRAMES = np.zeros((3, 4), np.float32)


def rewrite(path: Path, save=np.savez_compressed, **changes) -> None:
    """Changes arrays of an npz; None removes one."""
    with np.load(path, allow_pickle=False) as file:
        held = {name: file[name] for name in file.files} | changes
    save(path, **{name: value for name, value in held.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_size": "32"}, "--z-size: expected an integer, got '32'"),
        ({"kl_tolerance": float("nan")}, "expected finite numbers, found NaN"),
        ({"task": "pong"}, "unknown task 'pong'"),
        ({"task": 3}, "--task: expected a name, found 3"),
        ({"colour": 3}, "unknown settings: colour"),
        ({"sigma": 10**400}, "--sigma: expected a finite number"),
        ({"lanes": 10**400}, "--lanes: expected at least 1 and at most 1e\\+06, got 1000"),
        ({"z_size": 1024, "mixtures": 1024, "rnn_units": 8192}, "M's output layer would have more than"),
    ],
)
def test_settings_are_read_strictly(changes, message, tmp_path):
    new_run(tmp_path)
    edit_json(tmp_path / "config.json", **changes)
    with pytest.raises(UserError, match=rf"config\.json .*{message}"):
        config_file.load(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[1]", b"[" * 100_000, b'{"task": 1e', b"7", b'{"sigma": 1e999}'])
def test_what_is_not_a_json_object_is_one_line(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json"):
        config_file.load(tmp_path)
    (tmp_path / "config.json").write_text(config_file.text(small()))
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        Run(tmp_path).is_current("config.json")
    (tmp_path / "metrics.jsonl").write_bytes(b'{"model": "vae"}\n' + content + b'\n{"model": "vae"}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2, is broken"):
        files.read_lines(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize(
    "changes",
    [
        {"files": [1]},
        {"files": {"config.json": 3}},
        {"files": {"config.json": {"sha256": 3, "made_from": {}}}},
        {"files": {"config.json": {"sha256": "0", "made_from": {"vae.weights.h5": 3}}}},
        {"files": {"config.json": {"sha256": "0", "made_from": {}, "replaced": 3}}},
        {"files": {"record": {"sha256": "0", "made_from": {}}}},
        {"files": {"record": {"episodes": {"../../000000.npz": "0"}, "made_from": {}}}},
        {"begun": "x"},
        *(
            {"files": {"config.json": {"sha256": "0", "made_from": {}, name: ["x"]}}}
            for name in ("command", "machine", "commit")
        ),
    ],
)
def test_a_manifest_of_other_types_is_named(changes, tmp_path):
    new_run(tmp_path)
    edit_json(tmp_path / "manifest.json", **changes)
    with pytest.raises(UserError, match=r"manifest\.json is not a manifest"):
        Run(tmp_path).is_current("config.json")


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        '{"generation": 1, "seconds": 1, "mean": 1, "sigma": "0.1"}',
        '{"generation": 1, "seconds": 1, "mean": 1, "evaluation": {"mean": "906"}}',
        '{"generation": 1, "seconds": 1, "mean": 1' + "0" * 400 + "}",
    ],
)
def test_a_line_of_other_values_is_named(line, tmp_path):
    (tmp_path / "history.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"history\.jsonl, line 1, is broken: its "):
        files.read_lines(tmp_path / "history.jsonl")


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": "3"},
        {"score": None},
        {"score": "906"},
        {"score": 10**400},
        {"parameters": [0.5]},
        {"parameters": 3},
    ],
)
def test_an_agent_is_read_strictly(changes, copied):
    edit_json(copied / "controller/best.json", **changes)
    trust(copied, "controller/best.json")
    run = Run(copied)
    with pytest.raises(UserError, match=r"best\.json"):
        read_best(run, size_of(run.config))


def test_text_among_the_releases_numbers_takes_no_room(tmp_path):
    """numpy would give each of 50,000 items the room of the longest: 37 GiB."""
    path = tmp_path / "initial_z.json"
    path.write_text(json.dumps([["a" * 200_000, *["b"] * 50_000], [1]]))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"initial_z\.json"):
        read_initial_z(path, small())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 25


def npy(descr: str, shape: tuple, content: bytes) -> bytes:
    """A .npy file that claims what it likes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def headed(header: bytes) -> bytes:
    """A .npy file with this header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(60)


MEMBERS = {
    "objects": npy("|O", (1,), b"A" * 8),  # pointers, to wherever the file says
    "11 TiB": npy("|u1", (11 << 40,), b"A" * 8),
    "negative": npy("|u1", (-1,), b"A" * 8),
    "more than it holds": npy("|u1", (2 << 30,), b"")[:128] + bytes(2 << 20),
    "cut": headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3"),
    "nested": headed(b"-" * 9000 + b"1"),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_crafted_arrays_are_refused_before_memory_is_taken(name, tmp_path):
    path = tmp_path / "000000.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("obs.npy", MEMBERS[name])
    tracemalloc.start()
    for read in (episodes.read, episodes.length_of, lambda path: episodes.check(path, small(), 0)):
        with pytest.raises(UserError, match=r"000000\.npz is not a complete episode"):
            read(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 23


def test_no_memory_is_taken_for_what_is_not_an_episode(tmp_path, monkeypatch):
    path = tmp_path / "000000.npz"
    frames = {"obs": np.zeros((1, 64, 64, 3), np.uint8), "action": np.zeros((1, 3), np.float32)}
    frames |= {"reward": np.zeros(1, np.float32), "end": np.array(2)}
    for name, value in (("obs", np.zeros(1 << 25, np.uint8)), ("source", np.array("x" * (5 << 20)))):
        np.savez_compressed(path, **frames | {name: value})
        tracemalloc.start()
        with pytest.raises(UserError, match=f"found {name}"):
            episodes.read(path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 1 << 21
    np.savez_compressed(path, **frames)
    episodes.read(path)
    monkeypatch.setattr(arrays, "LIMIT", 1 << 10)
    with pytest.raises(ValueError, match="more than"):
        open_npz(path)


@pytest.mark.parametrize("flag", [0x01, 0x40], ids=["encrypted", "strongly encrypted"])
def test_an_encrypted_npz_is_refused(flag, tmp_path):
    path = episode_of(new_run(tmp_path), 0)
    content = bytearray(path.read_bytes())
    for begin, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(begin) + at] |= flag
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"000000\.npz is not a complete episode"):
        episodes.read(path)


WRONG = {
    "rewards of another length": {"reward": np.zeros(4, np.float32)},
    "a huge end": {"end": np.array(2**64 - 1, np.uint64)},
    "an end after the last": {"end": np.array(7)},
    "an infinite reward": {"reward": np.full(5, -np.inf, np.float32)},
    "a source that is not JSON": {"source": np.array("{")},
    "no frames": {"obs": np.zeros((0, 64, 64, 3), np.uint8), "action": np.zeros((0, 3), np.float32)},
}


@pytest.mark.parametrize("name", WRONG)
def test_an_episode_of_another_kind_is_refused(name, tmp_path):
    run = new_run(tmp_path)
    path = episode_of(run, 0)

    def read() -> None:
        episodes.check(path, run.config, 0)
        assert episodes.read(path).obs.shape == (5, 64, 64, 3)
        assert episodes.read(path).end == 6

    read()
    rewrite(path, **WRONG[name])
    with pytest.raises(UserError, match=r"000000\.npz(: expected finite numbers| is not a complete episode)"):
        read()


@pytest.mark.parametrize(
    "mu", [np.array(1.0, np.float32), FRAMES[:0], FRAMES[:2], FRAMES + 1j, None], ids=["0-d", "none", "few", "1j", "no"]
)
def test_first_frames_of_another_kind_are_refused(mu, copied):
    rewrite(copied / "initial_z.npz", mu=mu)
    trust(copied, "initial_z.npz")
    with pytest.raises(UserError, match=r"initial_z\.npz holds no frames to start from"):
        Starts(Run(copied))


LATENTS = {
    "objects": ("mu", npy("|O", (7, 2), b"A" * 112)),
    "huge": ("mu", npy("<f2", (1 << 40, 2), b"\0" * 28)),
    "too long": ("lengths", npy("<i8", (2,), np.array([3, 5]).tobytes())),
    "negative": ("lengths", npy("<i8", (2,), np.array([-1, 8]).tobytes())),
    "ends": ("ends", npy("<i8", (1,), np.array([4]).tobytes())),
}


@pytest.mark.parametrize("name", LATENTS)
def test_crafted_latents_are_refused(name, copied):
    path = copied / "series.npz"
    mu = np.zeros((7, 2), np.float16)
    rest = {"action": np.zeros((7, 1), np.float32), "reward": np.zeros(7, np.float32)}
    np.savez(path, mu=mu, logvar=mu, ends=np.array([4, 5]), lengths=np.array([3, 4]), **rest)
    trust(copied, "series.npz")
    assert LatentDataset.read(Run(copied)).starts.tolist() == [0, 3]
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    changed, content = LATENTS[name]
    with zipfile.ZipFile(path, "w") as archive:
        for member, held in members.items():
            archive.writestr(member, content if member == f"{changed}.npy" else held)
    trust(copied, "series.npz")
    with pytest.raises(UserError, match=r"series\.npz does not hold latents"):
        LatentDataset.read(Run(copied))


@pytest.mark.parametrize(
    "changes",
    [
        {"000": np.zeros((1, 3), np.float32)},
        {"step": np.array(7.0)},
        {f"{training.SUM}loss": np.zeros(1 << 20)},
        {"000": np.full(3, np.nan, np.float32)},
    ],
)
def test_a_training_checkpoint_of_other_arrays_is_refused(changes, copied):
    variable = tf.Variable(np.ones(3, np.float32))
    training.Checkpoint(Run(copied), "vae.checkpoint.npz", [variable]).save(7, {"loss": 0.5})
    rewrite(copied / "vae.checkpoint.npz", **changes)
    trust(copied, "vae.checkpoint.npz")
    variable.assign(np.full(3, 2.0))
    with pytest.raises(UserError, match=r"vae\.checkpoint\.npz"):
        training.Checkpoint(Run(copied), "vae.checkpoint.npz", [variable]).restore()
    np.testing.assert_array_equal(variable, np.full(3, 2.0))


def test_a_search_that_holds_too_much_is_refused_before_memory_is_taken(copied, monkeypatch):
    path = copied / "controller/checkpoint.npz"
    rewrite(path, more=np.zeros(20 << 20))
    trust(copied, "controller/checkpoint.npz")
    run = Run(copied)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("memory was taken"))
    with pytest.raises(UserError, match=r"checkpoint\.npz is not a checkpoint of this search: .*it holds [\d,]+ bytes"):
        Evolution(run, size_of(run.config))
