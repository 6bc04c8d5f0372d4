"""The short part of `make faults`: the evolution and M's training, told to end and started again."""

import random
import signal
import sys
from pathlib import Path

import pytest
from conftest import mpirun, run_script

sys.path.insert(0, str(Path(__file__).parent / "faults"))

import cases
import interruptions
from bench import STAGES, Bench


@pytest.fixture(scope="module")
def bench(car_run, tmp_path_factory) -> Bench:
    """A bench whose real run is complete up to C."""
    bench = Bench(tmp_path_factory.mktemp("faults"), "carracing", str(mpirun(1)[0]), car_run)
    if not (car_run / "controller" / "best.json").exists():
        run_script("train_controller.py", "--run", car_run, ranks=3)
    return bench


@pytest.mark.parametrize(
    "name, target, number, after",
    [("C real", "mpirun", signal.SIGTERM, "controller/history.jsonl"), ("M", "process", signal.SIGUSR1, "")],
    ids=["C, SIGTERM to mpirun", "M, SIGUSR1"],
)
def test_a_stage_told_to_end_goes_on_to_the_same_results(name, target, number, after, bench):
    assert interruptions.interrupt(bench, name, target, number, random.Random(0), after=after) == ""


def test_a_second_command_is_refused_and_does_not_disturb_the_first(bench):
    assert cases.two_commands(bench) == ""


def test_a_damaged_checkpoint_is_named_and_nothing_changes(bench):
    stage = STAGES["C real"]
    run = bench.copy(stage, "damaged")
    (run / "controller").mkdir()
    (run / "controller" / "checkpoint.npz").write_bytes(b"noise")
    before = cases.state(run)
    job = bench.start(stage.script, run, [], 0)
    _, err = job.communicate()
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert job.returncode == 2 and len(said) == 1 and "checkpoint.npz" in said[0]
    assert cases.state(run) == before


def test_a_limit_of_a_files_size_names_the_file(bench):
    assert cases.too_large(bench, "C real", 1000) == ""
