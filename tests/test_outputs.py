"""Results and endings, whatever becomes of the output that nobody reads."""

import errno
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from small_report import make_run

from world_models import command_line, mpi, results, seeds, statistics, tasks
from world_models.config import UserError
from world_models.runs import files
from world_models.runs.run import Run
from world_models.stages import evaluation


@pytest.fixture
def tested(tmp_path, monkeypatch):
    """(run, row) of a test that is not played: the row is there at once."""
    config = tasks.preset("carracing", "smoke")
    run = Run(make_run(tmp_path / "run", config, []))
    row = results.identity(config) | {"episodes": 2, "returns": [10.0, 20.0], "seeds": seeds.test_seeds(2)}
    row |= statistics.summary(np.array(row["returns"]), None)
    monkeypatch.setattr(evaluation, "score", lambda *_: row)
    return run, row


@pytest.mark.parametrize("out", ["closed", "none", "full", "latin-1"])
def test_a_result_is_saved_whatever_becomes_of_the_output(out, tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from pathlib import Path
from world_models import command_line
from world_models.runs.files import write_text
def main():
    command_line.print_result("dream, τ 1.15: 918 ± 249")
    write_text(Path("after"), "the stage went on")
command_line.command(main)
"""
    command, env = [sys.executable, "-c", code], os.environ | {"PYTHONUTF8": "0"}
    options = {"cwd": tmp_path, "stderr": subprocess.PIPE}
    if out == "closed":
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(command, stdout=writer, **options)
        os.close(writer)
    elif out == "none":
        done = subprocess.run(["sh", "-c", f"exec {shlex.join(command)} >&-"], **options)
    elif out == "full":
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, **options)
    else:
        env |= {"PYTHONIOENCODING": "latin-1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, env=env, **options)
        assert done.stdout.decode("latin-1") == "dream, ? 1.15: 918 ± 249\n"
    assert (tmp_path / "after").exists() and (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("stderr", ["full", "closed"])
@pytest.mark.parametrize("ends", ["finished", "error"])
def test_a_stage_ends_as_it_would_whatever_becomes_of_stderr(ends, stderr, tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from world_models import command_line, progress
from world_models.config import UserError
def main():
    progress.note("a notice")
    progress.bar(total=1).close()
    print("the stage went on", flush=True)
    if {ends == "error"}:
        raise UserError("a user's mistake")
command_line.command(main)
"""
    shell = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} 2>{'/dev/full' if stderr == 'full' else '&-'}"
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "the stage went on\n"
    assert done.returncode == {"finished": 0, "error": 2}[ends]


def test_room_for_the_result_is_asked_for_before_the_test_is_played(tested, monkeypatch):
    run, _ = tested

    def played(*_):
        pytest.fail("the test is played")

    def read_only(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(run))

    monkeypatch.setattr(evaluation, "score", played)
    monkeypatch.setattr(files.tempfile, "TemporaryFile", read_only)
    with pytest.raises(UserError, match="Read-only file system"):
        evaluation.evaluate(mpi.world(), run, run.config, 2, video=False)


def test_a_result_that_cannot_be_saved_is_printed(tested, monkeypatch, capsys):
    run, row = tested

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run / "results.json"))

    monkeypatch.setattr(results, "add", full)
    with pytest.raises(UserError, match=r"results\.json: No space left on device"):
        evaluation.evaluate(mpi.world(), run, run.config, 2, video=False)
    out = capsys.readouterr().out
    assert "15.0 ± 5.0" in out and json.loads(out.splitlines()[-1].partition("to it: ")[2]) == row


def test_a_result_is_saved_before_it_is_printed(tested, monkeypatch):
    run, row = tested
    saved = []
    monkeypatch.setattr(command_line, "print_result", lambda _: saved.append(results.read(run)))
    evaluation.evaluate(mpi.world(), run, run.config, 2, video=False)
    assert saved and all(rows == [row] for rows in saved)


@pytest.mark.parametrize("text", ["M's dream, restarted every 1 s", "0.8 s ahead: M predicts the end", "x" * 40])
def test_text_fits_its_panel(text):
    from world_models.pictures import PANEL, fitted

    assert fitted(text, 64 * PANEL, 11 + PANEL).getlength(text) <= 64 * PANEL
