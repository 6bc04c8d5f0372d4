"""The run folder: rows in the manifest, what is made again, what is refused, links, locks."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from small_run import add_agent, edit_json, episode_of, flip, make_run, new_run

from world_models.config import UserError
from world_models.runs import episodes, weights
from world_models.runs.artifacts import ARTIFACTS
from world_models.runs.begin import begin, open_run
from world_models.runs.lock import INHERITED, Lock
from world_models.runs.manifest import episode_digest
from world_models.runs.run import Run
from world_models.world_model import make_vae


def record(run: Run) -> Run:
    """A run with complete recordings."""
    paths = [episode_of(run, index) for index in range(run.config.linked_episodes, run.config.total_episodes)]
    linked = run.manifest.rows.get("linked", {}).get("episodes", {})
    run.record_episodes({**linked, **{path.name: episode_digest(path) for path in paths}})
    return run


def test_each_file_has_a_row_with_what_it_was_made_from(tmp_path):
    run = make_run(tmp_path / "run")
    content = json.loads((tmp_path / "run/manifest.json").read_text(encoding="utf-8"))["files"]
    row = content["rnn.weights.h5"]
    assert row["made_from"] == {"vae.weights.h5": content["vae.weights.h5"]["sha256"]}
    assert row["settings"]["rnn_units"] == 5 and "z_size" not in row["settings"]
    assert {"command", "commit", "machine", "seconds"} <= row.keys()
    assert all(run.is_current(name) for name in content)


def test_a_file_without_a_row_is_made_again_and_a_changed_one_is_an_error(tmp_path):
    run = make_run(tmp_path / "run")
    shutil.copyfile(run / "vae.weights.h5", tmp_path / "other.h5")
    del run.manifest.rows["vae.weights.h5"]
    assert not run.is_current("vae.weights.h5")
    with pytest.raises(UserError, match=r"vae\.weights\.h5 has no row in .*make it with: python train_vae\.py"):
        run.need("vae.weights.h5")
    run.reread()
    flip(run / "vae.weights.h5", 5000)
    with pytest.raises(UserError, match=r"vae\.weights\.h5 was modified after it was written"):
        run.is_current("vae.weights.h5")


def test_what_was_made_from_another_v_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    add_agent(run)
    weights.save(make_vae(run.config), run, "vae.weights.h5")
    for name in ("rnn.weights.h5", "initial_z.npz", "controller/best.json"):
        with pytest.raises(UserError, match=r"was made from another V than .*vae\.weights\.h5"):
            run.need(name)


@pytest.mark.parametrize("moment", ["before the manifest", "between", "after"])
def test_a_kill_at_any_moment_of_a_write_leaves_a_file_with_its_row(tmp_path, monkeypatch, moment):
    run = new_run(tmp_path / "run")
    run.write_text("results.json", "old")

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    if moment == "before the manifest":
        monkeypatch.setattr("world_models.runs.manifest.Manifest.put", killed)
    if moment == "between":
        replace = lambda a, b: killed() if b.name != "manifest.json" else os.rename(a, b)  # noqa: E731
        monkeypatch.setattr("world_models.runs.files.os.replace", replace)
    try:
        run.write_text("results.json", "new")
    except Killed:
        assert moment != "after"
    monkeypatch.undo()
    again = Run(tmp_path / "run")
    assert again.is_current("results.json")
    assert (again / "results.json").read_text() == ("new" if moment == "after" else "old")


def test_links_survive_a_move_of_the_whole_folder_and_other_episodes_there_are_refused(tmp_path):
    """A round links the recordings of the round before."""
    first = record(make_run(tmp_path / "runs/car"))
    add_agent(first)
    begin(tmp_path / "runs/car-2", {"episodes": 1}, after=first.path)
    assert not os.path.isabs(os.readlink(tmp_path / "runs/car-2/record/000000.npz"))
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    run = record(Run(tmp_path / "moved/car-2"))
    assert len(episodes.complete(run)) == 3
    other = record(make_run(tmp_path / "other", seed=5))
    shutil.copyfile(other / "record/000001.npz", tmp_path / "moved/car/record/000001.npz")
    with pytest.raises(UserError, match=r"000001\.npz, which leads to .* is not the episode that this run"):
        episodes.complete(run)
    (tmp_path / "moved/car/record/000001.npz").unlink()
    with pytest.raises(UserError, match=r"000001\.npz, which leads to .* is missing"):
        episodes.complete(run)


def test_the_rounds_before_keep_their_records(tmp_path):
    paths = [tmp_path / name for name in ("car", "car-2", "car-3")]
    for number, path in enumerate(paths):
        run = begin(path, {"episodes": 0}, after=paths[number - 1]) if number else record(make_run(path))
        add_agent(run)
    third = Run(paths[2])
    assert [one.config.round for one in third.earlier] == [1, 2]
    assert (third / "before/vae.weights.h5").exists() and not (third / "before/before/vae.weights.h5").exists()
    assert third.is_current("vae.weights.h5") and third.before.is_current("controller/best.json")


def test_a_base_with_the_same_settings_lends_recordings_v_and_m(tmp_path):
    base = record(make_run(tmp_path / "base"))
    same = begin(tmp_path / "same", {"seed": 3}, base=base.path)
    assert same.is_current("vae.weights.h5") and same.is_current("record")
    other = begin(tmp_path / "other", {"vae_epochs": 9}, base=base.path)
    assert other.is_current("record") and not (other / "vae.weights.h5").exists()


def test_edited_settings_are_refused(tmp_path):
    new_run(tmp_path / "run")
    edit_json(tmp_path / "run/config.json", sigma=0.2)
    with pytest.raises(UserError, match=r"config\.json was modified"), open_run(tmp_path / "run", {}):
        pass


def test_one_command_at_a_time(tmp_path):
    new_run(tmp_path / "run")
    lock = Lock(tmp_path / "run")
    lock.take()
    with pytest.raises(UserError, match=r"is in use by .* \(process \d+ on "):
        Lock(tmp_path / "run").take()
    shared = lock.share()
    code = "from pathlib import Path; from world_models.runs.lock import Lock; Lock(Path({!r})).take(); print('in')"
    command = [sys.executable, "-c", code.format(str(tmp_path / "run"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **shared)
    assert done.stdout == "in\n" and INHERITED in shared["env"], done.stderr
    lock.release()
    # What a process that was killed has left in the file does not count: the system has released the lock.
    (tmp_path / "run/.lock").write_bytes(b"\xff\xfe another command")
    again = Lock(tmp_path / "run")
    again.take()
    assert f"(process {os.getpid()} on " in (tmp_path / "run/.lock").read_text()
    again.release()


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path):
    code = "from pathlib import Path; from world_models.runs.lock import Lock; import time\n"
    code += f"Lock(Path({str(tmp_path / 'run')!r})).take(); print('in', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "in\n"
    with pytest.raises(UserError, match="is in use by"):
        Lock(tmp_path / "run").take()
    child.kill()
    child.wait()
    Lock(tmp_path / "run").take()


def test_a_refused_command_makes_no_folder(tmp_path):
    with pytest.raises(UserError, match="is a new run"), open_run(tmp_path / "run", {}):
        pass
    assert not (tmp_path / "run").exists()


def test_the_documentation_lists_the_files():
    page = (ROOT / "docs/files.md").read_text(encoding="utf-8")
    table = page.split("<!-- files -->\n")[1].split("<!-- end of files -->")[0]
    rows = [f"| `{name}` | `{artifact.made_by}` | {artifact.text} |" for name, artifact in ARTIFACTS.items()]
    assert table.splitlines()[2:] == rows
