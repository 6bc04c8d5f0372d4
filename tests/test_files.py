"""Files at the edges: disks that are full, files that are written while a signal comes."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from small_run import episode_of, small

from controller import recording_lanes
from controller.evolution import begin
from controller.policy import Controller
from controller.recording_lanes import RecordingLanes
from rnn.train import encode_episodes
from world_models import mpi, signals, tasks
from world_models.command_line import os_errors_as_user_errors
from world_models.config import UserError
from world_models.runs import storage
from world_models.stages import recording
from world_models.stages.film import Panel, Played, write_video
from world_models.world_model import WorldModel, load_vae


def limited(code: str, folder: Path, size: int) -> subprocess.CompletedProcess:
    """Runs Python code in a folder where files may have `size` bytes."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
    return subprocess.run(
        [sys.executable, "-c", start + code], cwd=folder, preexec_fn=limit, capture_output=True, text=True
    )


def test_a_write_that_fails_leaves_the_earlier_file_and_names_it(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"earlier")
    code = """
import numpy as np
from pathlib import Path
from world_models import command_line
from world_models.runs.files import atomic_write
def main():
    with atomic_write(Path("x.npz")) as tmp, open(tmp, "wb") as file:
        np.savez(file, a=np.zeros(100_000))
command_line.command(main)
"""
    done = limited(code, tmp_path, 10_000)
    assert (done.returncode, done.stderr) == (2, "error: x.npz: File too large\n")
    assert (tmp_path / "x.npz").read_bytes() == b"earlier" and os.listdir(tmp_path) == ["x.npz"]


def test_a_copy_that_does_not_fit_names_what_it_was_to_be(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"0" * 100_000)
    code = "from pathlib import Path\nfrom common import command_line, storage\n"
    code += "command_line.command(lambda: storage.copy(Path('a.npz'), Path('b.npz')))"
    done = limited(code, tmp_path, 10_000)
    assert (done.returncode, done.stderr) == (2, "error: b.npz: File too large\n")
    assert os.listdir(tmp_path) == ["a.npz"]


def test_a_lock_that_does_not_fit_names_its_file_and_does_not_stay(tmp_path):
    code = """
from pathlib import Path
from world_models import command_line
from world_models.runs import lock
def main():
    with lock.hold(Path("new/run")):
        pass
command_line.command(main)
"""
    done = limited(code, tmp_path, 20)
    assert (done.returncode, done.stderr) == (2, "error: new/run/.lock: File too large\n")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("ends", ["finished", "stopped"])
def test_a_command_record_that_does_not_fit_changes_nothing(ends, tmp_path):
    """Neither the one of each minute nor the last one, which would take the place of how to go on."""
    code = f"""
import resource, time
from pathlib import Path
from world_models import command_line, signals
from world_models.runs import command_log
command_log.BEAT = 0.05
def main():
    with command_log.log_command(Path("run")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
        time.sleep(0.3)
        if {ends == "stopped"}:
            raise signals.Stopped(15, "step 3 is saved")
command_line.command(main)
"""
    done = limited(code, tmp_path, 1 << 20)
    if ends == "stopped":
        assert done.returncode == 128 + 15 and done.stderr.startswith("stopped by SIGTERM: step 3 is saved;"), done
        assert done.stderr.count("\n") == 1
    else:
        assert (done.returncode, done.stderr) == (0, "")
    [left] = os.listdir(tmp_path / "run" / "commands")
    assert not json.loads((tmp_path / "run" / "commands" / left).read_text())["ended"]  # the first record


def test_weights_that_do_not_fit_are_a_user_error_and_no_segmentation_fault(tmp_path):
    (tmp_path / "vae.weights.h5").write_bytes(b"earlier")
    code = """
from pathlib import Path
from world_models import command_line
from world_models.training import quiet_tensorflow, save_weights
quiet_tensorflow()
import keras
model = keras.Sequential([keras.layers.Input((100,)), keras.layers.Dense(100)])
command_line.command(lambda: save_weights(model, Path("vae.weights.h5")))
"""
    done = limited(code, tmp_path, 10_000)
    assert done.returncode == 2 and done.stderr.endswith("error: vae.weights.h5: File too large\n"), done
    assert (tmp_path / "vae.weights.h5").read_bytes() == b"earlier" and os.listdir(tmp_path) == ["vae.weights.h5"]


def test_a_film_that_ffmpeg_cuts_short_is_no_film(tmp_path):
    code = """
import numpy as np
from pathlib import Path
from world_models import command_line
from world_models.stages.film import Panel, write_video
def main():
    for count in (30, 300):  # the disk is full as ffmpeg closes the file, and before the last frame
        noise = np.random.default_rng(0).integers(0, 255, (count, 64, 64, 3)).astype(np.uint8)
        try:
            write_video(Path("a.mp4"), [Panel("game", noise, [""] * count)], 20)
        except command_line.UserError as error:
            print(error)
command_line.command(main)
"""
    done = limited(code, tmp_path, 20_000)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith("a.mp4: ffmpeg has not finished") for line in lines), done
    assert not os.listdir(tmp_path)


def test_a_films_last_note_has_the_return():
    played = Played(np.zeros((3, 64, 64, 3), np.uint8), np.array([0.0, 3.4, 3.3]), total=906.0)
    assert played.notes == ["step 0   score 0.0", "step 1   score 3.4", "step 2   return 906.0"]


def test_a_film_ends_between_two_frames_at_a_signal(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "_note", [(int(signal.SIGINT), 0.0)])
    with pytest.raises(signals.Stopped, match="the film is not finished"):
        write_video(tmp_path / "a.mp4", [Panel("game", np.zeros((30, 64, 64, 3), np.uint8), [""] * 30)], 20)
    assert not os.listdir(tmp_path)


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda number: calls.append(os.readlink(f"/proc/self/fd/{number}")))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("rename"), replace(*names)))
    storage.write_text(tmp_path / "a.json", "{}")
    assert calls == [str(tmp_path / f".{os.getpid()}.tmp.a.json"), "rename", str(tmp_path)]


def test_room_is_asked_for_before_a_long_stage(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    storage.require_room(tmp_path / "a", 1000)
    with pytest.raises(UserError, match=r"a: \d+ MB are needed, \d+ MB are free"):
        storage.require_room(tmp_path / "a", usage.free // 2, times=3)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000, 1000))
    with pytest.raises(UserError, match="`ulimit -f`"):
        storage.require_room(tmp_path / "a", 2_000_000)

    def read_only(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "runs/car")

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", read_only)
    with pytest.raises(UserError, match="runs/car: Read-only file system"):
        os_errors_as_user_errors(storage.require_room, tmp_path / "a", 1)


@pytest.mark.parametrize("stage", ["latents", "evolution", "the agent's episodes"])
def test_stages_ask_for_room_before_they_are_long(stage, copied, monkeypatch):
    run, config = copied
    for index in range(2):
        episode_of(run, index, config)
    usage = shutil.disk_usage(run)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage._replace(free=0))
    before = {path for path in run.rglob("*") if path.is_file()}
    if stage == "latents":
        with pytest.raises(UserError, match=r"series\.npz: 0 MB are needed, 0 MB are free"):
            encode_episodes(run, config, load_vae(run, config), None)
    elif stage == "evolution":
        with pytest.raises(UserError, match=r"checkpoint\.npz: \d+ MB are needed"):
            begin(run, tasks.replace(config, generations=9), Controller.of(config).num_params)
    else:
        lanes = RecordingLanes(config, WorldModel.load(run, config), 1)
        monkeypatch.setattr(recording_lanes, "make_lanes", lambda *_: lanes)
        with pytest.raises(UserError, match=r"held_out/000000\.npz: 0 MB are needed"):
            recording.extract_held_out(mpi.world(), run, config, 2)
        before.add(run / "held_out" / "000000.npz")  # how large one is, the first tells
    assert {path for path in run.rglob("*") if path.is_file()} == before


def test_episodes_that_are_never_long_enough_name_the_flag(monkeypatch):
    class Short:
        def reset(self, seed):
            return np.zeros((64, 64, 3), np.uint8), {}

        def step(self, action):
            return np.zeros((64, 64, 3), np.uint8), 0.0, True, False, {}

    monkeypatch.setattr(recording, "ATTEMPTS", 2)
    with pytest.raises(UserError, match="--min-frames 5: episode 3 ended before in each of 2 attempts"):
        recording.record(Short(), small("doom", min_frames=5), 3)
