"""The commands themselves, under a real mpirun, on real CarRacing."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, copy_of, mpirun, run_script, user_error
from world_models.runs.agent_file import read_best

import train_rnn
import train_vae
from controller.evolution import begin
from tools.pack import pack
from vae.data import episode_path, read_episode
from world_models.config import UserError
from world_models.runs import integrity, run_dir


def curve(run: Path) -> list[dict]:
    """The history without its clock."""
    lines = [json.loads(line) for line in (run / "controller" / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def evolved(car_run, tmp_path_factory) -> Path:
    """A copy of `car_run` with C evolved by three ranks."""
    run = copy_of(car_run, tmp_path_factory.mktemp("evolved") / "car")
    run_script("train_controller.py", "--run", run, ranks=3)
    return run


def test_extract_wrote_every_episode_and_does_nothing_twice(car_run):
    config = run_dir.load(car_run)
    before = {}
    for index in range(config.episodes):
        obs, action = read_episode(episode_path(car_run, index))
        assert obs.shape == (60, 64, 64, 3) and obs.dtype == np.uint8
        assert action.shape == (60, 3) and action.dtype == np.float32
        before[index] = episode_path(car_run, index).stat().st_mtime_ns
    removed = episode_path(car_run, 1).read_bytes()
    episode_path(car_run, 1).unlink()
    done = run_script("extract.py", "--run", car_run, ranks=2)
    assert "1 episodes, 60 frames" in done.stdout and "frames/s" in done.stdout
    assert episode_path(car_run, 0).stat().st_mtime_ns == before[0]
    # Which rank records an episode does not matter.
    again, first = (np.load(path)["obs"] for path in (episode_path(car_run, 1), _write(removed, car_run / "old.npz")))
    np.testing.assert_array_equal(again, first)


def _write(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path


def test_training_left_weights_curves_and_pictures(car_run):
    for name in ("vae.weights.h5", "rnn.weights.h5", "series.npz", "initial_z.npz", "pictures/reconstructions.png"):
        assert (car_run / name).exists(), name
    assert not list(car_run.glob("*.checkpoint.npz"))
    lines = [json.loads(line) for line in (car_run / "metrics.jsonl").read_text().splitlines()]
    assert {line["model"] for line in lines} == {"vae", "rnn"} and all(
        np.isfinite(list(line.values())[3:]).all() for line in lines
    )
    assert list((car_run / "tensorboard" / "vae").iterdir())
    assert np.load(car_run / "initial_z.npz")["mu"].shape == (4, 32)


def test_training_killed_before_its_picture_only_makes_that(car_run):
    picture, weights = car_run / "pictures" / "reconstructions.png", car_run / "vae.weights.h5"
    first, trained = picture.read_bytes(), weights.stat().st_mtime_ns
    picture.unlink()
    run_script("train_vae.py", "--run", car_run)
    assert picture.read_bytes() == first and weights.stat().st_mtime_ns == trained
    assert "there already" in run_script("train_vae.py", "--run", car_run).stdout


def test_the_curve_does_not_depend_on_the_number_of_ranks(evolved, tmp_path):
    """Three ranks evolved it; one does here, and two do where it is killed."""
    run = copy_of(evolved, tmp_path / "1")
    run_script("train_controller.py", "--run", run)
    assert curve(run) == curve(evolved)


@pytest.mark.parametrize("flag", [("--optimizer", "openai-es"), ("--patience", "20"), ("--dtype", "bfloat16")])
def test_another_search_gives_the_same_curve_on_any_number_of_ranks_and_when_it_goes_on(flag, evolved, tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    run_script("train_controller.py", "--run", two, "--from", evolved, *flag, "--generations", "3", ranks=2)
    run_script("train_controller.py", "--run", one, "--from", evolved, *flag, "--generations", "2")
    run_script("train_controller.py", "--run", one, "--generations", "3")
    whole, resumed, before = curve(two), curve(one), curve(evolved)
    assert resumed == whole != before[:3]
    if flag[0] == "--patience":
        assert whole[0]["mean_steps"] < before[0]["mean_steps"]
    if flag[0] == "--optimizer":
        assert all(line["sigma"] == 0.1 for line in whole)


def test_the_kept_agent_is_the_best_scored_mean(evolved):
    best = json.loads((evolved / "controller" / "best.json").read_text())
    scored = {line["generation"]: line["evaluation"] for line in curve(evolved) if line["evaluation"]}
    assert set(scored) == {2, 4, 5}
    assert best["score"] == max(value["mean"] for value in scored.values())
    assert len(best["parameters"]) == 867


def test_killed_and_started_again_gives_the_same_curve(evolved, tmp_path):
    """SIGKILL to every rank in the middle of a generation; the third, at the earliest."""
    run = copy_of(evolved, tmp_path / "run")
    command = [*mpirun(2), sys.executable, ROOT / "train_controller.py"]
    job = subprocess.Popen([*command, "--run", run], start_new_session=True, stderr=subprocess.DEVNULL)
    history = run / "controller" / "history.jsonl"
    deadline = time.monotonic() + 300
    while not (history.exists() and len(history.read_text().splitlines()) >= 3):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.02)
    os.killpg(job.pid, signal.SIGKILL)
    subprocess.run(["pkill", "-9", "-f", f"train_controller.py --run {run}"])
    job.wait()
    survived = len(history.read_text().splitlines())
    assert 3 <= survived < 5  # else nothing is left to resume
    run_script("train_controller.py", "--run", run, ranks=2)
    assert curve(run) == curve(evolved)


def test_evaluate_scores_films_and_keeps_its_rows(evolved, tmp_path):
    evolved = shutil.copytree(
        evolved, tmp_path / "car", ignore=shutil.ignore_patterns("results.json", "videos", "pictures")
    )
    done = run_script("evaluate.py", "--run", evolved, "--episodes", "3", ranks=2)
    assert "906 ± 21" in done.stdout
    [row] = json.loads((evolved / "results.json").read_text())["results"]
    assert len(row["returns"]) == len(set(row["seeds"])) == 3
    models = integrity.digests(evolved, "vae", "rnn")
    assert {name: row[name] for name in models} == models and len(models) == 2 and len(row["agent"]) == 16
    assert row["mean"] == pytest.approx(np.mean(row["returns"])) and row["std"] == pytest.approx(np.std(row["returns"]))
    assert {path.name for path in (evolved / "videos").iterdir()} == {
        "carracing-v0-best.mp4",
        "carracing-v0-median.mp4",
        "carracing-v0-worst.mp4",
    }
    assert (evolved / "pictures" / "carracing-v0-worst.png").exists()
    run_script("evaluate.py", "--run", evolved, "--episodes", "2", "--view", "v3", "--no-video")
    run_script("evaluate.py", "--run", evolved, "--episodes", "2", "--no-video")
    rows = json.loads((evolved / "results.json").read_text())["results"]
    assert {(row["view"], row["episodes"]) for row in rows} == {("v0", 3), ("v3", 2), ("v0", 2)}
    again = next(new for new in rows if (new["view"], new["episodes"]) == ("v0", 2))
    assert again["returns"] == row["returns"][:2]  # the same seeds, on another number of ranks
    before = (evolved / "results.json").read_bytes()
    assert "906 ± 21" in run_script("evaluate.py", "--run", evolved, "--episodes", "1", "--no-save").stdout
    assert (evolved / "results.json").read_bytes() == before


def test_a_packed_run_is_a_run(evolved, tmp_path):
    small = tmp_path / "pretrained" / "car"
    run_script("evaluate.py", "--run", evolved, "--episodes", "2", "--no-video")
    assert "MB" in run_script("tools.pack", "--run", evolved, "--out", small).stdout
    assert not (small / "record").exists() and not (small / "controller" / "checkpoint.npz").exists()
    card = (small / "README.md").read_text()
    for command in ("train_vae.py", "train_rnn.py", "train_controller.py"):
        assert re.search(rf"python {command} --run \S+car`", card)
    for picture in re.findall(r"\]\((\S+\.png)\)", card):
        assert (small / picture).exists()
    before = json.loads((evolved / "results.json").read_text())["results"]
    kept = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}
    done = run_script("evaluate.py", "--run", small, "--episodes", "2", "--against", evolved)
    assert "is a packed run: its results and films stay as they are" in done.stdout
    assert "on the same 2 episodes: +0.0 a return" in done.stdout and "better in 50%" in done.stdout
    assert {path: path.read_bytes() for path in small.rglob("*") if path.is_file()} == kept
    run_script("evaluate.py", "--run", small, "--episodes", "2", "--no-video", "--save")
    after = json.loads((small / "results.json").read_text())["results"]
    assert {tuple(row["returns"]) for row in before} == {tuple(row["returns"]) for row in after}
    run_script("tools.pack", "--run", evolved, "--out", small, "--checkpoint")
    assert (small / "controller" / "checkpoint.npz").exists()
    assert "which is not of a packed run" in user_error("tools.pack", "--run", small, "--out", evolved)
    assert (evolved / "record").exists()
    # A folder whose evolution can go on is only replaced by what it has become.
    history = small / "controller" / "history.jsonl"
    history.write_text(history.read_text().replace('"generation": 1', '"generation": 11'))
    with pytest.raises(UserError, match="holds an evolution"):
        pack(evolved, small, checkpoint=True)
    assert history.exists()


def test_what_is_derived_from_an_older_v_is_refused(evolved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(evolved, run, symlinks=True)
    config = run_dir.load(run)
    (run / "vae.weights.h5").unlink()
    train_vae.train(run, config)  # the same one, to the bit
    read_best(run / "controller", 867)
    (run / "vae.weights.h5").unlink()
    train_vae.train(run, dataclasses.replace(config, vae_rate=1e-3))
    assert "rnn.weights.h5 was made from another V" in user_error("train_rnn.py", "--run", run)
    assert "was made from another V" in user_error("train_controller.py", "--run", run, "--generations", "9")
    assert run_dir.load(run) == config
    with pytest.raises(UserError, match=r"series\.npz was made from another V"):
        train_rnn.train(run, config)
    with pytest.raises(UserError, match=r"best\.json was made from another V"):
        read_best(run / "controller", 867)


def test_a_failing_command_changes_no_configuration(evolved, tmp_path):
    run = copy_of(evolved, tmp_path / "run")
    (run / "controller").mkdir(exist_ok=True)
    (run / "controller" / "best.json").write_bytes((evolved / "controller" / "best.json").read_bytes())
    before = (run / "config.json").read_bytes()
    with pytest.raises(UserError, match=r"has no checkpoint\.npz"):
        begin(run, run_dir.open_run(run, {"generations": 99}), size=867)
    assert (run / "config.json").read_bytes() == before


def test_ablations_start_from_another_runs_v_and_m(evolved, tmp_path):
    run = tmp_path / "z"
    flags = ["--features", "z_hidden", "--generations", "1", "--eval-every", "1"]
    run_script("train_controller.py", "--run", run, "--from", evolved, *flags)
    assert len(json.loads((run / "controller" / "best.json").read_text())["parameters"]) == 1443
    untrained = tmp_path / "untrained"
    run_script("train_rnn.py", "--run", untrained, "--from", evolved, "--untrained", "rnn")
    assert (untrained / "vae.weights.h5").exists() and (untrained / "rnn.weights.h5").exists()
