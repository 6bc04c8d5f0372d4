"""Files at the edges: full disks, closed outputs, files of killed processes, and what a lock would overwrite."""

import errno
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from small_run import contents, episode_of, make_run, small

from controller.evolution import Evolution
from controller.policy import Controller
from rnn.train import encode_episodes
from world_models import command_line, mpi, results, seeds, statistics, tasks
from world_models.command_line import os_errors_as_user_errors
from world_models.config import UserError
from world_models.runs import files, lock
from world_models.runs.lock import Lock
from world_models.runs.manifest import episode_digest
from world_models.runs.run import Run
from world_models.stages import evaluation, recording
from world_models.stages.film import Played
from world_models.stages.variations import evolve_and_test
from world_models.world_model import load_vae

START = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"


def limited(code: str, folder: Path, size: int) -> subprocess.CompletedProcess:
    """Runs Python code in a folder where files may have `size` bytes."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
    return subprocess.run(
        [sys.executable, "-c", START + code], cwd=folder, preexec_fn=limit, capture_output=True, text=True
    )


LARGE = {
    "write": "write_text(Path('b.npz'), '0' * 100_000)",
    "copy": "copy(Path('a.npz'), Path('b.npz'))",
}


@pytest.mark.parametrize("way", LARGE)
def test_a_write_that_fails_leaves_the_earlier_file_and_names_it(way, tmp_path):
    (tmp_path / "a.npz").write_bytes(b"0" * 100_000)
    (tmp_path / "b.npz").write_bytes(b"earlier")
    code = "from pathlib import Path\nfrom world_models.runs.files import *\nfrom world_models import command_line\n"
    done = limited(code + f"command_line.command(lambda: {LARGE[way]})", tmp_path, 10_000)
    assert (done.returncode, done.stderr) == (2, "error: b.npz: File too large\n")
    assert (tmp_path / "b.npz").read_bytes() == b"earlier" and sorted(os.listdir(tmp_path)) == ["a.npz", "b.npz"]


def test_a_film_that_ffmpeg_cuts_short_is_no_film(tmp_path):
    code = """
import numpy as np
from pathlib import Path
from world_models import command_line
from world_models.pictures import write_film
for count in (30, 300):  # the disk is full as ffmpeg closes the file, and before the last frame
    noise = np.random.default_rng(0).integers(0, 255, (count, 304, 272, 3)).astype(np.uint8)
    try:
        write_film(Path("a.mp4"), noise, 20)
    except command_line.UserError as error:
        print(error)
"""
    done = limited(code, tmp_path, 20_000)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith("a.mp4: ffmpeg") for line in lines), done
    assert not os.listdir(tmp_path)


def test_a_films_last_note_has_the_return():
    played = Played(np.zeros((3, 64, 64, 3), np.uint8), np.array([0.0, 3.4, 3.3]), total=906.0)
    assert played.notes == ["step 0   score 0.0", "step 1   score 3.4", "step 2   return 906.0"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda number: calls.append(os.readlink(f"/proc/self/fd/{number}")))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("rename"), replace(*names)))
    files.write_text(tmp_path / "a.json", "{}")
    assert calls == [str(tmp_path / f".{os.getpid()}.tmp.a.json"), "rename", str(tmp_path)]


@pytest.mark.parametrize("number", files.CANNOT_FLUSH)
def test_a_file_system_that_cannot_flush_stops_no_stage(number, tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    files.write_text(tmp_path / "a.json", "{}")
    assert (tmp_path / "a.json").read_text() == "{}"


def test_room_is_asked_for_before_a_long_stage(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    files.require_room(tmp_path / "a", 1000)
    with pytest.raises(UserError, match=r"a: \d+ MB are needed, \d+ MB are free"):
        files.require_room(tmp_path / "a", usage.free // 2, times=3)
    monkeypatch.setattr(files.tempfile, "TemporaryFile", read_only)
    with pytest.raises(UserError, match="runs/car: Read-only file system"):
        os_errors_as_user_errors(files.require_room, tmp_path / "a", 1)


def read_only(**_):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "runs/car")


@pytest.mark.parametrize("stage", ["latents", "search", "the agent's episodes"])
def test_stages_ask_for_room_before_they_are_long(stage, copied, monkeypatch):
    run = Run(copied)
    run.record_episodes({path.name: episode_digest(path) for path in [episode_of(run, index) for index in range(2)]})
    usage = shutil.disk_usage(copied)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=0))
    before = contents(copied)
    if stage == "latents":
        with pytest.raises(UserError, match=r"series\.npz: 0 MB are needed, 0 MB are free"):
            encode_episodes(run, load_vae(run), None)
    elif stage == "search":
        run.config = tasks.replace(run.config, generations=9)
        with pytest.raises(UserError, match=r"checkpoint\.npz: \d+ MB are needed"):
            Evolution(run, Controller.of(run.config).num_params)
    else:
        monkeypatch.setattr("controller.lanes.use_one_core", lambda: None)  # other tests have started TensorFlow
        with pytest.raises(UserError, match=r"held_out/00000\d\.npz: 0 MB are needed"):
            recording.extract_held_out(mpi.world(), run, 5)
        shutil.rmtree(copied / "held_out")  # how large one is, the first tells
    assert contents(copied) == before


def test_episodes_that_are_never_long_enough_name_the_flag(monkeypatch):
    class Short:
        def reset(self, seed):
            return np.zeros((64, 64, 3), np.uint8), {}

        def step(self, action):
            return np.zeros((64, 64, 3), np.uint8), 0.0, True, False, {}

    monkeypatch.setattr(recording, "ATTEMPTS", 2)
    with pytest.raises(UserError, match="--min-frames 5: episode 3 ended before in each of 2 attempts"):
        recording.record(Short(), small("doom", min_frames=5), 3)


# Outputs


@pytest.mark.parametrize("out", ["closed", "none", "full", "latin-1"])
def test_a_result_is_saved_whatever_becomes_of_the_output(out, tmp_path):
    code = """
from pathlib import Path
from world_models import command_line
def main():
    command_line.print_result("dream, τ 1.15: 918 ± 249")
    Path("after").write_text("the stage went on")
command_line.command(main)
"""
    command, env = [sys.executable, "-c", START + code], os.environ | {"PYTHONUTF8": "0"}
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
@pytest.mark.parametrize("ends, status", [("pass", 0), ("os.kill(os.getpid(), 15); time.sleep(60)", 143), ("wrong", 2)])
def test_a_stage_ends_as_it_would_whatever_becomes_of_stderr(ends, status, stderr, tmp_path):
    code = f"""
import os, time
from world_models import command_line, progress
def main():
    progress.note("a notice")
    progress.bar(total=1).close()
    print("the stage went on", flush=True)
    {"raise command_line.UserError('wrong')" if ends == "wrong" else ends}
command_line.command(main)
"""
    shell = shlex.join([sys.executable, "-c", START + code])
    shell = f"exec {shell} 2>{'/dev/full' if stderr == 'full' else '&-'}"
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert (done.stdout, done.returncode) == ("the stage went on\n", status)


@pytest.fixture
def tested(copied, monkeypatch):
    """(run, row) of a test that is not played: the row exists at once."""
    run = Run(copied)
    row = results.identity(run.config) | {"episodes": 2, "returns": [10.0, 20.0], "seeds": seeds.test_seeds(2)}
    row |= statistics.summary(np.array(row["returns"]), None)
    monkeypatch.setattr(evaluation, "score", lambda *_: row)
    return run, row


def test_room_for_the_result_is_asked_for_before_the_test_is_played(tested, monkeypatch):
    run, _ = tested
    monkeypatch.setattr(evaluation, "score", lambda *_: pytest.fail("the test is played"))
    monkeypatch.setattr(files.tempfile, "TemporaryFile", read_only)
    with pytest.raises(UserError, match="Read-only file system"):
        evaluation.evaluate(mpi.world(), run, run.config, 2, video=False)


def test_a_result_that_cannot_be_saved_is_printed(tested, monkeypatch, capsys):
    run, row = tested

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "flush_to_disk", full)
    with pytest.raises(UserError, match=r"manifest\.json: No space left on device"):
        evaluation.evaluate(mpi.world(), run, run.config, 2, video=False)
    out = capsys.readouterr().out
    assert "15.0 ± 5.0" in out and json.loads(out.splitlines()[0].partition("add this row to it: ")[2]) == row


def test_a_result_is_saved_before_it_is_printed(tested, monkeypatch):
    run, row = tested
    saved = []
    monkeypatch.setattr(command_line, "print_result", lambda _: saved.append(results.read(Run(run.path))))
    evaluation.evaluate(mpi.world(), run, run.config, 2, video=False)
    assert saved and all(rows == [row] for rows in saved)


# The lock


def test_an_agents_run_is_locked(tmp_path):
    run = make_run(tmp_path, "doom")
    held = Lock(tmp_path / "agents/seed-1")
    held.take()
    with pytest.raises(UserError, match=r"seed-1 is in use"):
        evolve_and_test(mpi.world(), run, {}, [{"seed": 1}], 1)
    held.release()


def test_unfinished_files_of_dead_processes_are_removed_and_no_others(tmp_path):
    dead = subprocess.Popen(["true"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    left = [f".{dead.pid}.tmp.vae.weights.h5", f"record/.{dead.pid}.tmp.000001.npz", f".{dead.pid}.tmp.a.mp4.mp4"]
    kept = [f".{os.getpid()}.tmp.report.md", ".note", "record/000001.npz", f".{dead.pid}", f".{dead.pid}.notes.md"]
    (tmp_path / "run/record").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "run/agents/seed-1").mkdir(parents=True)
    (tmp_path / "run/agents/seed-1/record").symlink_to(tmp_path / "outside")
    for name in (*(f"run/{name}" for name in (*left, *kept)), f"outside/{left[0]}"):
        (tmp_path / name).write_text("x")
    held = Lock(tmp_path / "run")
    held.take()
    assert not [name for name in left if (tmp_path / "run" / name).exists()]
    assert all((tmp_path / "run" / name).exists() for name in kept) and (tmp_path / "outside" / left[0]).exists()
    held.release()


def test_a_lock_file_that_is_a_link_is_refused_and_its_target_stays(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "target")
    with pytest.raises(UserError, match=r"/\.lock: "):
        os_errors_as_user_errors(Lock(tmp_path).take)
    assert (tmp_path / "target").read_text() == "precious"


def test_the_lock_of_a_job_that_was_killed_on_another_machine_is_free(tmp_path):
    (tmp_path / ".lock").write_text(f"train_vae.py (process {os.getpid()} on another-node, since 2026-01-01 00:00 UTC)")
    held = Lock(tmp_path)
    held.take()
    assert "another-node" not in (tmp_path / ".lock").read_text()
    held.release()


def test_on_a_file_system_without_locks_one_line_says_so(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(lock.fcntl, "flock", none)
    held = Lock(tmp_path)
    held.take()
    assert capsys.readouterr().err.count("\n") == 1
    held.release()
