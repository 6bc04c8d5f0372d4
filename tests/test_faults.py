"""The short part of `make faults`: every stage is killed or told to end, and resumes to identical numbers."""

import json
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import mpirun, run_script

sys.path.insert(0, str(Path(__file__).parent / "faults"))

import cases
from bench import STAGES, Bench


@pytest.fixture(scope="module")
def bench(car_run, tmp_path_factory) -> Bench:
    """A bench whose real run is complete."""
    folder = tmp_path_factory.mktemp("faults")
    run = shutil.copytree(car_run, folder / "real", ignore=shutil.ignore_patterns("controller", "results*"))
    for name in ("C real", "evaluate"):
        stage = STAGES[name]
        run_script(stage.script, "--run", run, *stage.flags.split(), ranks=2)
    return Bench(folder, "carracing", str(mpirun(1)[0]))


@pytest.mark.parametrize(
    "name, target, number",
    [
        ("extract", "rank 1", signal.SIGINT),
        ("V", "process", signal.SIGKILL),
        ("M", "process", signal.SIGUSR1),
        ("C real", "mpirun", signal.SIGTERM),
        ("C real", "rank 0", signal.SIGKILL),
        ("evaluate", "mpirun", signal.SIGUSR1),
    ],
)
def test_an_interrupted_stage_resumes_to_identical_results(name, target, number, bench):
    assert cases.interrupt(bench, name, target, number, random.Random(0), begun=True) == ""


def test_an_interrupted_test_does_not_play_finished_episodes_again(bench):
    stage = STAGES["evaluate"]
    run = bench.copy(stage, "partial")
    flags = stage.flags.replace("--episodes 12", "--episodes 96").split()  # many more than are played at once
    job = bench.start(stage.script, run, flags, stage.ranks)
    while not list(run.glob("results.partial/*")) and job.poll() is None:
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    assert cases.ended_as_promised(job, signal.SIGTERM, True) == ""
    path = next(run.glob("results.partial/*"))
    lines = [json.loads(line) | {"return": 1234.5} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_script(stage.script, "--run", run, *flags, ranks=2)
    [row] = json.loads((run / "results.json").read_text())["results"]
    marked = {seed for seed, value in zip(row["seeds"], row["returns"], strict=True) if value == 1234.5}
    assert marked == {line["seed"] for line in lines} and len(row["returns"]) == 96
    assert not (run / "results.partial").exists()


def test_a_second_command_is_refused_and_does_not_disturb_the_first(bench):
    assert cases.two_commands(bench) == ""


@pytest.mark.parametrize("file", ["controller/checkpoint.npz", "rnn.weights.h5", "results.json"])
def test_a_damaged_file_is_named_and_nothing_changes(file, bench):
    assert cases.spoil(bench, bench, file, cases.READ_BY[file], "flipped bytes", random.Random(0)) == ""


@pytest.mark.parametrize("stage", ["C real", "extract"])
def test_a_limit_of_a_files_size_names_the_file(stage, bench):
    """Rank 0 alone writes the search's files; both ranks write episodes, and fail in the same moment."""
    assert cases.too_large(bench, stage, 1000) == ""
