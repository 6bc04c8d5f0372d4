"""What `tools.pack` refuses to delete or to follow."""

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from small_run import edit_json, make_run

from tools import pack
from world_models import tasks
from world_models.config import UserError
from world_models.runs import integrity, lock, packed, run_dir, storage


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run with the files that packing needs; their content does not matter here, nor does the report."""
    run = tmp_path / "run"
    run_dir.save(tasks.preset("carracing", "smoke"), run)
    for name in ("vae.weights.h5", "rnn.weights.h5", "controller/best.json", "controller/history.jsonl"):
        storage.write_text(run / name, "")
    monkeypatch.setattr(pack, "read_run", lambda *_: None)
    monkeypatch.setattr(pack, "write_report", lambda *_: None)
    monkeypatch.setattr(pack, "card", lambda *_: "the card")
    monkeypatch.setattr(run_dir, "need_models", lambda _: None)
    monkeypatch.setattr(pack, "read_best", lambda *_: None)
    return run


def test_an_older_pack_is_replaced(run, tmp_path):
    out = tmp_path / "out"
    pack.pack(run, out, checkpoint=False)
    storage.write_text(out / "results.json", json.dumps({"results": []}))  # of evaluate.py
    for name in ("videos/carracing-v0-best.mp4", "videos/carracing-dream-1.15.mp4", "pictures/dream-0.5.png"):
        storage.write_text(out / name, "")
    pack.pack(run, out, checkpoint=False)
    assert (out / "README.md").read_text() == "the card" and not (out / "results.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


@pytest.mark.parametrize("part", [".", "agents/temperature-0.5"])
def test_a_pack_in_which_a_command_is_at_work_is_not_replaced(part, run, tmp_path):
    out = tmp_path / "out"
    run_dir.save(tasks.preset("carracing", "smoke"), run / "agents/temperature-0.5")
    pack.pack(run, out, checkpoint=False)
    with lock.hold(out / part), pytest.raises(UserError, match=f"{(out / part).name} is in use by"):
        pack.pack(run, out, checkpoint=False)  # as beside evaluate.py --save
    pack.pack(run, out, checkpoint=False)
    assert (out / "README.md").exists()


def test_the_older_pack_is_there_until_the_new_one_is_on_the_disk(run, tmp_path, monkeypatch):
    out, calls = tmp_path / "out", []
    pack.pack(run, out, checkpoint=False)
    flush, remove = storage.flush_to_disk, shutil.rmtree
    monkeypatch.setattr(storage, "flush_to_disk", lambda path: (calls.append(path), flush(path)))
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: (calls.append(f"remove {path.name}"), remove(path, **_)))
    pack.pack(run, out, checkpoint=False)
    assert calls[-2:] == [tmp_path, "remove .out.old"]
    new = storage.tmp_path(out)
    assert {new, new / "controller", new / "vae.weights.h5", new / "packed.json"} <= set(calls)


STRANGERS = (
    ".git/HEAD",
    "thesis.tex",
    "report/deep/er.png",
    "report/notes.txt",
    "report/mine.png",
    "videos/holiday.mp4",
    "pictures/mine-best.png",
    "commands/mine.json",
    "controller/mine.txt",
    "agents/mine/thesis.tex",
    "temperature-0.5/results.json",
)


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_not_of_a_pack_is_not_deleted(name, run, tmp_path):
    out = tmp_path / "out"
    pack.pack(run, out, checkpoint=False)
    storage.write_text(out / name, "precious")
    with pytest.raises(UserError, match=r"holds .*, which is not of a packed run"):
        pack.pack(run, out, checkpoint=False)
    assert (out / name).read_text() == "precious"


def test_a_picture_that_the_run_has_too_may_be_deleted(run, tmp_path):
    storage.write_text(run / "pictures/mine.png", "x")
    pack.pack(run, tmp_path / "out", checkpoint=False)
    pack.pack(run, tmp_path / "out", checkpoint=False)
    storage.write_text(run / "pictures/mine.png", "y")
    with pytest.raises(UserError, match=r"pictures/mine\.png, which is not"):
        pack.pack(run, tmp_path / "out", checkpoint=False)


@pytest.mark.parametrize("name", [".out.old", ".{pid}.tmp.out"])
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_who_has_a_pack_s_temporary_name_is_left_alone(kind, name, run, tmp_path):
    pack.pack(run, tmp_path / "out", checkpoint=False)
    target = tmp_path / "target"
    storage.write_text(target / "thesis.tex", "precious")
    path = tmp_path / name.format(pid=os.getpid())
    if kind == "link":
        path.symlink_to(target)
    else:
        target = target.rename(path)
    with pytest.raises((UserError, FileExistsError)):
        pack.pack(run, tmp_path / "out", checkpoint=False)
    assert (path / "thesis.tex").read_text() == "precious" and len(list(path.iterdir())) == 1
    assert (tmp_path / "out" / "README.md").exists()


def test_a_pack_and_its_run_do_not_hold_each_other(run, tmp_path):
    pack.pack(run, tmp_path / "out", checkpoint=False)
    part = shutil.copytree(run, tmp_path / "out" / "agents/temperature-0.5")
    for source, out in ((part, tmp_path / "out"), (run, run / "out"), (run, run)):
        with pytest.raises(UserError, match="one is or holds the other"):
            pack.pack(source, out, checkpoint=False)
    assert (part / "vae.weights.h5").exists() and not (run / "out").exists()


@pytest.mark.parametrize("out", ["out", "new/out"])
def test_a_pack_that_fails_leaves_nothing(out, run, tmp_path, monkeypatch):
    if out == "out":
        pack.pack(run, tmp_path / out, checkpoint=False)
    before = sorted(tmp_path.rglob("*"))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pack, "card", full)
    with pytest.raises(OSError, match="No space left"):
        pack.pack(run, tmp_path / out, checkpoint=False)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_killed_pack_left_is_cleared(run, tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    storage.write_text(tmp_path / f".{dead.pid}.tmp.out" / "vae.weights.h5", "")
    storage.write_text(tmp_path / f".{dead.pid}.tmp.other" / "vae.weights.h5", "")
    pack.pack(run, tmp_path / "out", checkpoint=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{dead.pid}.tmp.other", "out", "run"]
    shutil.copytree(tmp_path / "out", tmp_path / ".out.old")  # killed when the new one was there
    pack.pack(run, tmp_path / "out", checkpoint=False)
    assert not (tmp_path / ".out.old").exists()


def test_a_new_pack_is_locked_while_it_is_made(run, tmp_path, monkeypatch):
    out, seen = tmp_path / "out", []
    monkeypatch.setattr(pack, "card", lambda *_: seen.append((out / lock.NAME).exists()) or "the card")
    pack.pack(run, out, checkpoint=False)
    assert seen == [True] and not (out / lock.NAME).exists()


@pytest.mark.parametrize("name", ["notes.md", "controller"])
def test_links_out_of_the_run_are_not_followed(name, run, tmp_path):
    secret = tmp_path / "secret"
    if name == "controller":
        shutil.move(run / name, secret)
    else:
        secret.write_text("key")
    (run / name).symlink_to(secret)
    with pytest.raises(UserError, match=rf"{name}.* is a link out of the run"):
        pack.pack(run, tmp_path / "out", checkpoint=False)
    assert not (tmp_path / "out").exists()


def test_a_link_is_not_replaced(run, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "target")
    with pytest.raises(UserError, match="is a link"):
        pack.pack(run, tmp_path / "out", checkpoint=False)


def test_a_pack_that_was_interrupted_while_it_was_replaced_comes_back(run, tmp_path):
    pack.pack(run, tmp_path / "out", checkpoint=False)
    (tmp_path / "out").rename(tmp_path / ".out.old")
    (run / "notes.md").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").touch()
    with pytest.raises(UserError, match="is a link out of the run"):
        pack.pack(run, tmp_path / "out", checkpoint=False)
    assert (tmp_path / "out" / "README.md").exists() and not (tmp_path / ".out.old").exists()


def test_only_an_agent_of_this_v_and_m_is_packed(copied, tmp_path):
    run, _ = copied
    part = shutil.copytree(run, tmp_path / "part")
    edit_json(part / "controller/best.json", parameters=[0.5])
    shutil.move(part, run / "agents/temperature-0.5")
    with pytest.raises(UserError, match=r"temperature-0\.5/controller/best\.json holds 1 parameters"):
        pack.pack(run, tmp_path / "out", checkpoint=False)
    shutil.rmtree(run / "agents/temperature-0.5")
    make_run(tmp_path / "other", seed=7)
    for name, message in (
        ("rnn", r"best\.json was made from another M"),
        ("vae", r"rnn\.weights\.h5 was made from another V"),
    ):
        shutil.copyfile(tmp_path / f"other/{name}.weights.h5", run / f"{name}.weights.h5")
        if name == "rnn":
            integrity.stamp_weights(run / "rnn.weights.h5", integrity.digests(run, "vae"))
        with pytest.raises(UserError, match=message):
            pack.pack(run, tmp_path / "out", checkpoint=False)
    assert not (tmp_path / "out").exists()


def test_a_run_of_five_temperatures_is_packed(tmp_path):
    """A copy of the shipped one, with three seeds of each."""
    run, out = tmp_path / "doom", tmp_path / "out"
    shutil.copytree(ROOT / "pretrained" / "doom", run)
    pack.pack(run, out, checkpoint=False)
    card = (out / "README.md").read_text()
    assert all(f"trained at τ {tau:g}" in card for tau in (0.1, 0.5, 1, 1.15, 1.3))
    assert (out / "report" / "training-doom.png").stat().st_size > 10_000


def test_a_packed_run_is_not_imported_into(tmp_path):
    run_dir.save(tasks.preset("carracing", "smoke"), tmp_path)
    packed.mark(tmp_path, None)
    before = sorted(tmp_path.iterdir())
    done = run_script("tools.convert", "import", "--run", tmp_path, "--vae", "vae.json", check=False)
    assert done.returncode == 2 and "is a packed run and read-only: import into a run of your own" in done.stderr
    assert sorted(tmp_path.iterdir()) == before
