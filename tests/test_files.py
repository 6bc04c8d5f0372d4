"""Files at the edges: disks that are full, files that lie, output that nobody reads."""

import errno
import io
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from small_run import episode_of, small

import tasks
from common import arrays, command_line, mpi, results, seeds, signals, statistics, storage
from common.arrays import open_npz
from common.command_line import os_errors_as_user_errors
from config import UserError
from controller import evaluation, recording, recording_lanes
from controller.evolution import begin
from controller.film import Panel, Played, write_video
from controller.policy import Controller
from controller.recording_lanes import RecordingLanes
from rnn.data import LatentDataset
from rnn.train import encode_episodes
from vae.data import check_episodes, episode_length, episode_path
from world_model import WorldModel, load_vae


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
from common import command_line
from common.storage import atomic_write
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
from common import command_line, lock
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
from common import command_line, command_log, signals
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
from common import command_line
from common.training import quiet_tensorflow, save_weights
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
from common import command_line
from controller import recording, recording_lanes
from controller.evolution import begin
from controller.film import Panel, write_video
from controller.policy import Controller
from controller.recording_lanes import RecordingLanes
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
from config import UserError
from controller import recording, recording_lanes
from controller.evolution import begin
from controller.film import Panel, write_video
from controller.policy import Controller
from controller.recording_lanes import RecordingLanes
from rnn.data import LatentDataset
from rnn.train import encode_episodes
from world_model import WorldModel, load_vae
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


@pytest.fixture
def tested(copied, monkeypatch):
    """(run, configuration, row) of a test that is not played: the row is there at once."""
    run, config = copied
    row = results.identity(config) | {"episodes": 2, "returns": [10.0, 20.0], "seeds": seeds.test_seeds(2)}
    row |= statistics.summary(np.array(row["returns"]), None)
    monkeypatch.setattr(evaluation, "score", lambda *_: row)
    return run, config, row


@pytest.mark.parametrize("out", ["closed", "none", "full", "latin-1"])
def test_a_result_is_saved_whatever_becomes_of_the_output(out, tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from pathlib import Path
from common import command_line
from common.storage import write_text
def main():
    command_line.say("dream, τ 1.15: 918 ± 249")
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
@pytest.mark.parametrize("ends", ["finished", "stopped", "error"])
def test_a_stage_ends_as_it_would_whatever_becomes_of_stderr(ends, stderr, tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from common import command_line, config_file, progress, run_dir, signals, storage
from config import UserError
import tasks
run = Path("run")
def main():
    storage.write_text(run / "config.json", config_file.text(tasks.preset("carracing", "smoke"), None))
    run_dir.open_run(run, {{}}, base=Path("base"))  # a notice
    progress.bar(total=1).close()
    print("the stage went on", flush=True)
    if {ends == "stopped"}:
        raise signals.Stopped(15, "step 3 is saved")
    if {ends == "error"}:
        raise UserError("a user's mistake")
command_line.command(main)
"""
    shell = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} 2>{'/dev/full' if stderr == 'full' else '&-'}"
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "the stage went on\n"
    assert done.returncode == {"finished": 0, "stopped": 128 + 15, "error": 2}[ends]


def test_room_for_the_result_is_asked_for_before_the_test_is_played(tested, monkeypatch):
    run, config, _ = tested

    def played(*_):
        pytest.fail("the test is played")

    def read_only(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(run))

    monkeypatch.setattr(evaluation, "score", played)
    monkeypatch.setattr(storage.tempfile, "TemporaryFile", read_only)
    with pytest.raises(UserError, match="Read-only file system"):
        evaluation.evaluate(mpi.world(), run, config, 2, video=False)


def test_a_result_that_cannot_be_saved_is_printed(tested, monkeypatch, capsys):
    run, config, row = tested

    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(results, "write_text", full)
    with pytest.raises(UserError, match=r"results\.json: No space left on device"):
        evaluation.evaluate(mpi.world(), run, config, 2, video=False)
    out = capsys.readouterr().out
    assert "15.0 ± 5.0" in out and json.loads(out.splitlines()[-1].partition("written: ")[2]) == row


def test_a_result_is_saved_before_it_is_printed(tested, monkeypatch):
    run, config, row = tested
    saved = []
    monkeypatch.setattr(command_line, "say", lambda _: saved.append(results.read(run / "results.json")))
    evaluation.evaluate(mpi.world(), run, config, 2, video=False)
    assert saved and all(rows == [row] for rows in saved)
