"""A user's mistakes are one line each, with one rank or several, and overwrite nothing."""

import ctypes.util
import types

import pytest
from conftest import ROOT, copy_of, run_script, user_error
from small_run import contents

from world_models import mpi
from world_models.config import UserError


def test_a_missing_stage_names_the_command_that_makes_it(tmp_path):
    run = tmp_path / "run"
    flags = ["--task", "carracing", "--preset", "smoke"]
    assert f"python extract.py --run {run}" in user_error("train_vae.py", "--run", run, *flags)
    assert f"python train_vae.py --run {run}" in user_error("train_rnn.py", "--run", run)
    assert f"python train_vae.py --run {run}" in user_error("train_controller.py", "--run", run, ranks=2)
    assert "is a new run: give --task" in user_error("extract.py", "--run", tmp_path / "other", ranks=2)
    assert "holds no run" in user_error("evaluate.py", "--run", tmp_path / "nothing")
    for folder in (".", ".."):
        line = user_error("train_all.py", "--run", folder, "--rounds", 2, *flags)
        assert "the rounds' folders are named after it" in line


def test_user_errors_overwrite_nothing(car_run, tmp_path):
    run = copy_of(car_run, tmp_path / "run")
    before = {path: held for path, held in contents(run).items() if path.name != ".lock"}
    assert "--task doom" in user_error("train_vae.py", "--run", run, "--task", "doom")
    assert "--task: unknown task 'pong': expected one of carracing, doom" in user_error(
        "extract.py", "--run", tmp_path / "new", "--task", "pong", ranks=2
    )
    assert before == {path: held for path, held in contents(run).items() if path.name != ".lock"}
    assert not (tmp_path / "new").exists()


def test_an_mpirun_of_another_mpi_is_found_out(car_run, monkeypatch):
    """Else each of its processes would take itself for the only one."""
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "64")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    line = user_error("train_controller.py", "--run", car_run)
    if not ctypes.util.find_library("mpi"):  # else Open MPI may be loaded, and sees one process
        assert line.startswith("error: MPI cannot be loaded")
    with pytest.raises(UserError, match="64 processes were started, but each sees 1"):
        mpi.require_same_mpi(types.SimpleNamespace(size=1))


def test_a_truncated_episode_stops_training_by_name(car_run, tmp_path):
    run = copy_of(car_run, tmp_path / "run")
    (run / "vae.weights.h5").unlink()
    path = run / "record/000002.npz"
    path.write_bytes(path.read_bytes()[:1000])
    line = user_error("train_vae.py", "--run", run)
    assert "000002.npz is not a complete episode" in line and f"python extract.py --run {run}" in line
    assert not (run / "vae.weights.h5").exists()


def test_one_ranks_user_error_is_one_line_and_ends_the_others(tmp_path):
    alone = tmp_path / "alone.py"
    alone.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from world_models import mpi\nfrom world_models.config import UserError\n"
        "def main(comm):\n"
        "    if comm.rank == 1: raise UserError('the wheel came off')\n"
        "    mpi.wait(comm)\n"
        "mpi.launch(main)\n"
    )
    assert user_error(alone, ROOT, ranks=2) == "error: the wheel came off (rank 1)"


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    flags = ["--task", "carracing", "--preset", "smoke"]
    assert "Not a directory" in user_error("extract.py", "--run", tmp_path / "file" / "run", *flags, ranks=2)


def test_a_workers_exception_ends_the_job_and_its_traceback_is_shown(car_run, tmp_path):
    run = copy_of(car_run, tmp_path / "run")
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import train_controller\nfrom controller import lanes\nfrom world_models import mpi\n"
        "def advance(self): raise RuntimeError('the wheel came off')\n"
        "if mpi.world().rank == 1: lanes.RealLanes.advance = advance\n"
        "mpi.launch(train_controller.main)\n"
    )
    done = run_script(broken, ROOT, "--run", run, ranks=2, check=False)
    assert done.returncode != 0
    assert "RuntimeError: the wheel came off" in done.stderr and "in advance" in done.stderr
