"""Files that anybody may have written are read strictly, and refused in one line."""

import json
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from conftest import ROOT
from small_run import edit_json, episode_of, small

from tools.release.parts import read_initial_z, read_vae
from train_all import rounds_table
from vae.data import check_episodes, episode_length, episode_path, read_episode
from world_models import tasks
from world_models.config import UserError
from world_models.runs import config_file, integrity, run_dir, storage


def test_an_episode_without_frames_is_refused(tmp_path):
    episode_of(tmp_path, 0, small(), frames=0)
    path = episode_path(tmp_path, 0)
    with pytest.raises(UserError, match=r"000000\.npz is not a complete episode"):
        check_episodes([path], small())
    with pytest.raises(UserError, match=r"000000\.npz is not a complete episode"):
        read_episode(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_size": "32"}, "--z-size: expected a whole number, got '32'"),
        ({"z_size": 32.0}, "--z-size: expected a whole number, got 32.0"),
        ({"z_size": None}, "--z-size: expected a whole number, got None"),
        ({"z_size": True}, "--z-size: expected a whole number, got True"),
        ({"sigma": "0.1"}, "--sigma: expected a number, got '0.1'"),
        ({"eval_every": 0}, "--eval-every: expected 1 or more, got 0"),
        ({"kl_tolerance": float("nan")}, "expected finite numbers, found NaN"),
        ({"task": "pong"}, "unknown task 'pong'"),
        ({"colour": 3}, "it has unknown settings: colour"),
        ({"task": 3}, "--task: expected a name, got 3"),
        ({"origin": ["from"]}, "origin: expected the run's base by its flag"),
        ({"origin": {"from": 3}}, "origin: expected the run's base by its flag"),
        ({"sigma": 10**400}, "--sigma: expected a finite number"),
        ({"z_size": 10**9}, "--z-size: expected 1024 or less, got 1000000000"),
        ({"lanes": 10**400}, "--lanes: expected 1000000 or less, got 1000"),
        ({"z_size": 1024, "mixtures": 1024, "rnn_units": 8192}, "M's output layer would have more than"),
    ],
)
def test_configurations_are_read_strictly(changes, message, tmp_path):
    run_dir.save(small(), tmp_path)
    edit_json(tmp_path / "config.json", **changes)
    with pytest.raises(UserError, match=rf"config\.json .*{message}"):
        run_dir.load(tmp_path)


def test_a_missing_setting_is_not_another_tasks_default(tmp_path):
    run_dir.save(small("doom"), tmp_path)
    path = tmp_path / "config.json"
    whole = json.loads(path.read_text())
    del whole["digest"]
    path.write_text(json.dumps({name: value for name, value in whole.items() if name != "z_size"}))
    with pytest.raises(UserError, match="it lacks settings: z_size"):
        run_dir.load(tmp_path)
    # But runs from before a setting was one are what they were.
    path.write_text(json.dumps({k: v for k, v in whole.items() if k not in ("heads", *config_file.ADDED)}))
    assert run_dir.load(tmp_path) == small("doom")


def test_every_shipped_run_is_read():
    runs = [path.parent for path in (ROOT / "pretrained").rglob("config.json")]
    assert len(runs) > 3 and {run_dir.load(run).task for run in runs} == {"carracing", "doom"}


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[1]", b"[" * 100_000, b'{"task": 1e', b"7", b'{"sigma": 1e999}'])
def test_what_is_no_configuration_is_one_line(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json"):
        run_dir.load(tmp_path)


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"[1]", b"7", b"[" * 100_000, b'{"loss": NaN}', b'{"loss": 1e999}', b'{"a": "\xff"}']
)
def test_a_line_that_is_no_object_is_named(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"model": "vae"}\n' + line + b'\n{"model": "vae"}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2, is broken"):
        storage.read_lines(path)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("metrics.jsonl", "{}"),
        ("metrics.jsonl", '{"model": "vae", "step": "2", "seconds": 1}'),
        ("history.jsonl", '{"generation": 1, "seconds": 1}'),
        ("history.jsonl", '{"generation": 1, "seconds": 1, "mean": 1, "sigma": "0.1"}'),
        ("history.jsonl", '{"generation": 1, "seconds": 1, "mean": 1, "max": null}'),
        ("history.jsonl", '{"generation": 1, "seconds": 1, "mean": 1, "evaluation": {}}'),
        ("history.jsonl", '{"generation": 1, "seconds": 1, "mean": 1, "evaluation": {"mean": "906"}}'),
        ("history.jsonl", '{"generation": 1, "seconds": 1, "mean": 1' + "0" * 400 + "}"),
    ],
)
def test_a_line_that_lacks_what_its_file_has_is_named(name, line, tmp_path):
    (tmp_path / name).write_text(line + "\n")
    with pytest.raises(UserError, match=rf"{name}, line 1, is broken: its "):
        storage.read_lines(tmp_path / name)


def npy(header: bytes) -> bytes:
    """A .npy file of this header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(60)


HEADERS = {
    "cut": b"{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3",
    "no type": b"{'descr': ('<f4',), 'fortran_order': False, 'shape': (5, 3)}",
    "a list for a key": b"{[]: 1}",
    "nested": b"-" * 9000 + b"1",
    "not Python": b"'",
}


@pytest.mark.parametrize("name", HEADERS)
def test_arrays_with_a_crafted_header_are_refused(name, tmp_path):
    path = episode_path(tmp_path, 0)
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("obs.npy", npy(HEADERS[name]))
    for read in (read_episode, episode_length, lambda path: check_episodes([path], small())):
        with pytest.raises(UserError, match=r"000000\.npz is not a complete episode"):
            read(path)


@pytest.mark.parametrize("flag", [0x01, 0x40], ids=["encrypted", "strongly encrypted"])
def test_an_encrypted_npz_is_refused(flag, tmp_path):
    episode_of(tmp_path, 0, small())
    path = episode_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    for begin, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(begin) + at] |= flag
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"000000\.npz is not a complete episode"):
        read_episode(path)


def test_weights_that_claim_more_than_their_file_holds_are_refused(tmp_path):
    path = tmp_path / "vae.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kernel", (1 << 40,), np.float32)  # 4 TiB
    with pytest.raises(UserError, match=r"vae\.weights\.h5 is damaged: its arrays claim 4,398,046,511,104 bytes"):
        integrity.digests(tmp_path, "vae")


@pytest.mark.parametrize(
    "rollouts", ["9" * 5000, "4,50:16,20:8", "4,20:8,20:16", "3:4", "4,", "4,x:8", "0", "-1", "4,:8"]
)
def test_schedules_that_do_not_ascend_are_refused(rollouts):
    with pytest.raises(UserError, match="--rollouts: expected a count"):
        tasks.check(small(rollouts=rollouts))


def test_text_among_the_releases_numbers_takes_no_room(tmp_path):
    """numpy would give each of 50,000 items the room of the longest: 37 GiB."""
    path = tmp_path / "initial_z.json"
    path.write_text(json.dumps([["a" * 200_000, *["b"] * 50_000], [1]]))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"initial_z\.json: mu: .* other things than numbers"):
        read_initial_z(path, small())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 25


@pytest.mark.parametrize("number", ["1e300", "9" * 5000, "NaN", "1e38"])
def test_absurd_numbers_in_the_releases_files_are_refused(number, tmp_path):
    config = small()
    (tmp_path / "initial_z.json").write_text(f"[[[{number}, 1, 1, 1]], [[1, 1, 1, 1]]]")
    if number == "1e38":  # as float32 has it; but no logvar
        (tmp_path / "initial_z.json").write_text("[[[1, 1, 1, 1]], [[10000000, 1, 1, 1]]]")
    with pytest.raises(UserError, match=r"initial_z\.json"):
        read_initial_z(tmp_path / "initial_z.json", config)
    (tmp_path / "vae.json").write_text(f"[[[[[{number}]]]]]")
    with pytest.raises(UserError, match=r"vae\.json"):
        read_vae(tmp_path / "vae.json", config)


@pytest.mark.parametrize(
    ("errors", "lacks"),
    [
        ({"m_loss": 1.0}, "v_error"),
        ({"v_error": 5.0}, "m_loss"),
        ({"v_error": "5", "m_loss": 1.0}, "v_error"),
        ({"v_error": 5.0, "m_loss": 1.0, "deaths": 3}, "recall"),
        ({"v_error": 5.0, "m_loss": 1.0, "recall": 0.5, "deaths": [3]}, "deaths"),
    ],
)
def test_a_rounds_errors_without_their_values_are_named(errors, lacks, tmp_path):
    path = tmp_path / "held_out" / "errors.json"
    storage.write_text(path, json.dumps(errors))
    with pytest.raises(UserError, match=rf"errors\.json is broken: expected a number as {lacks}"):
        rounds_table([tmp_path])
    storage.write_text(path, json.dumps({"v_error": 5.0, "m_loss": 1.0, "recall": 0.5, "deaths": 3}))
    assert "50% of 3" in rounds_table([tmp_path])
