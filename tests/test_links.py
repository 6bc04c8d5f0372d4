"""Links and pipes in a run folder: no command writes through a link, and none waits for a pipe."""

import os
import shutil
from pathlib import Path

import pytest
from small_run import episode_of, new_run

from world_models.config import UserError
from world_models.runs import arrays, episodes, files
from world_models.runs.begin import open_run
from world_models.runs.lock import Lock
from world_models.runs.manifest import episode_digest, sha256


@pytest.mark.parametrize("name", ["videos", "tensorboard", "pictures", "results.partial", "before", "agents/a/videos"])
def test_nothing_is_written_through_a_link_to_a_folder(name, copied, tmp_path):
    shutil.rmtree(copied / name, ignore_errors=True)
    (copied / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "outside").mkdir()
    (copied / name).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=f"{name} is a link to .*outside"), open_run(copied, {}):
        pass
    assert not list((tmp_path / "outside").iterdir())


def test_a_record_elsewhere_is_read_and_not_written(tmp_path):
    run = new_run(tmp_path / "run")
    (tmp_path / "outside").mkdir()
    (run / "record").symlink_to(tmp_path / "outside")
    with open_run(run.path, {}), pytest.raises(UserError, match=r"record is a link to .*outside"):
        episode_of(run, 0)
    with pytest.raises(UserError, match=r"record is a link to .*outside"):
        episodes.link(run, run, {})
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.with_name("other"))])
def test_lines_are_appended_to_no_pipe_and_to_no_link(make, tmp_path):
    make(path := tmp_path / "metrics.jsonl")
    with pytest.raises(OSError, match=r"metrics\.jsonl"):
        files.append_line(path, {"step": 1})
    assert not (tmp_path / "other").exists()


READERS = [files.read_text, files.read_json, sha256, episode_digest, episodes.length_of, episodes.read, arrays.open_npz]


@pytest.mark.parametrize("read", [*READERS, lambda path: files.copy(path, path.with_name("copy"))])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_refused_unread(make, read, tmp_path):
    """Who opens a pipe waits for its writer, and /dev/zero has no end."""
    make(path := tmp_path / "000000.npz")
    with pytest.raises(UserError, match=r"000000\.npz: expected a regular file; delete it"):
        read(path)


def test_a_pipe_in_place_of_the_lock_is_refused(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UserError, match=r"/\.lock: expected a regular file"):
        Lock(tmp_path).take()
