"""What a pack holds, and what `tools.pack` refuses."""

import dataclasses
import errno
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from small_report import make_car, make_run, result

from tools import pack as packing
from tools.pack import pack, relative
from tools.reporting.runs import read_run
from world_models import results, tasks
from world_models.config import UserError
from world_models.runs import files
from world_models.runs.run import Run


@pytest.fixture
def run(tmp_path):
    """A run of the second round with an agent in agents/, a film, data, and files that no table names."""
    first = make_car(tmp_path / "first")
    config = dataclasses.replace(tasks.preset("carracing", "smoke"), round=2)
    row = result(config, [800.0, 900.0], command="evaluate.py --run /home/someone/runs/car --episodes 2")
    path = make_run(tmp_path / "car", config, [row], before=first)
    other = dataclasses.replace(config, seed=1)
    agent = make_run(path / "agents/seed-1", other, [result(other, [700.0, 800.0])])
    for name in ("videos/carracing-v0-best.mp4", "record/000000.npz", "thesis.tex", "controller/checkpoint.npz"):
        files.write_text(path / name, name)
    files.write_text(path / "notes.md", "It fails in hairpins.\n")
    manifest = Run(path).manifest
    manifest.rows["rnn.weights.h5"]["command"] = "train_rnn.py --run /home/someone/runs/car"
    manifest.begun = {"after": "../first"}
    manifest.save()
    assert agent.exists()
    return path


def test_a_pack_holds_what_the_table_names_and_is_a_run(run, tmp_path):
    out = tmp_path / "out"
    assert pack(run, out) > 0
    found = {str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir()}
    record = {"config.json", "manifest.json", "metrics.jsonl", "results.json"}
    record |= {f"controller/{name}" for name in ("best.json", "history.jsonl")}
    shared = {"vae.weights.h5", "rnn.weights.h5"}
    pictures = {f"pictures/{name}.png" for name in ("reconstructions", "training-carracing", "returns-carracing")}
    agent = {f"agents/seed-1/{name}" for name in (record | shared | {"pictures/reconstructions.png"})}
    own = record | shared | pictures | {"README.md", "notes.md", "videos/carracing-v0-best.mp4"}
    assert found == own | agent | {f"before/{name}" for name in record}
    for name in shared:
        link = out / "agents/seed-1" / name
        assert os.readlink(link) == f"../../{name}" and link.exists()
    packed = Run(out)
    assert len(read_run(out, "car").rows) == 1
    assert packed.manifest.packed and packed.manifest.begun == {} and packed.need("vae.weights.h5").exists()
    assert [one.config.seed for one in packed.agents] == [1] and packed.agents[0].need("rnn.weights.h5").exists()
    assert [one.config.round for one in packed.earlier] == [1] and results.read(packed.earlier[0])
    assert "It fails in hairpins." in (out / "README.md").read_text(encoding="utf-8")
    again = tmp_path / "again"
    pack(out, again)
    assert {str(path.relative_to(again)) for path in again.rglob("*") if not path.is_dir()} == found
    pack(run, tmp_path / "whole", checkpoint=True)
    assert (tmp_path / "whole/controller/checkpoint.npz").exists()


def test_a_pack_names_no_folder_of_the_machine(run, tmp_path):
    pack(run, tmp_path / "out")
    row = results.read(Run(tmp_path / "out"))[0]
    assert row["command"] == "evaluate.py --run car --episodes 2"
    assert Run(tmp_path / "out").manifest.rows["rnn.weights.h5"]["command"] == "train_rnn.py --run car"
    for path in (path for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".jsonl", ".md", ".tex")):
        assert not re.search(rf"/home/|{tmp_path}", path.read_text(encoding="utf-8")), path
    assert relative("x.py --run ../../home/me/car --out=a:/home/me/b 'c") == """x.py --run car --out=a:b ''"'"'c'"""
    assert relative("python x.py --run ./runs/car/ --after ~me/runs/b/ -- gymnasium:ALE/Pong-v5") == (
        "python x.py --run ./runs/car/ --after b/ -- gymnasium:ALE/Pong-v5"
    )
    files.write_text(run / "notes.md", f"It lies in {tmp_path}/car.\n")
    with pytest.raises(UserError, match=r"notes\.md names the folder .* of this machine; remove it"):
        pack(run, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_existing_folder_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "link", "car"):
        with pytest.raises(UserError, match="exists; give a new folder"):
            pack(run, tmp_path / name)
    with pytest.raises(UserError, match="lies in --run"):
        pack(run, run / "out")
    assert not (run / "out").exists()


def test_a_link_out_of_the_run_is_refused(run, tmp_path):
    for name in ("results.json", "before/results.json", "agents/seed-1/results.json", "pictures/mine.png"):
        path = run / name
        kept = path.rename(tmp_path / "kept") if path.exists() else tmp_path / "first.txt"
        kept.touch()
        path.symlink_to(kept)
        with pytest.raises(UserError, match="is a link out of the run and is not packed"):
            pack(run, tmp_path / "out")
        path.unlink()
        shutil.move(kept, path)
    assert not (tmp_path / "out").exists()


def test_what_is_missing_or_modified_is_named(run, tmp_path):
    files.write_text(run / "agents/seed-1/vae.weights.h5", "another")
    with pytest.raises(UserError, match=r"vae\.weights\.h5"):
        pack(run, tmp_path / "out")
    shutil.rmtree(run / "agents")
    files.write_text(run / "vae.weights.h5", "modified")
    with pytest.raises(UserError, match=r"was modified after it was written|was made from another V"):
        pack(run, tmp_path / "out")
    (run / "controller/best.json").unlink()
    with pytest.raises(UserError, match=r"best\.json is missing; make it with: python train_controller\.py"):
        pack(run, tmp_path / "out")


def test_a_pack_that_fails_leaves_nothing(run, tmp_path, monkeypatch):
    before = sorted(tmp_path.rglob("*"))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packing, "card", full)
    with pytest.raises(OSError, match="No space left"):
        pack(run, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_cards_snippet_loads_v_m_and_c_in_another_folder(tmp_path):
    pack(ROOT / "pretrained/carracing", tmp_path / "carracing")
    page = (tmp_path / "carracing/README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.S)
    snippet += "\nprint(world_model.vae.z_size, list(parameters.shape), controller.num_params)"
    command, env = [sys.executable, "-c", snippet], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["32 [1, 867] 867"], done.stderr
