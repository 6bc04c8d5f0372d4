"""The commands themselves, under a real mpirun, on real CarRacing."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SMALL, copy_of, run_script, user_error
from small_run import contents

from tools import launcher
from world_models.runs.run import Run


def curve(run: Path) -> list[dict]:
    """The history without its clock."""
    lines = [json.loads(line) for line in (run / "controller/history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def evolved(car_run, tmp_path_factory) -> Path:
    """A copy of `car_run` with C evolved by three ranks."""
    run = copy_of(car_run, tmp_path_factory.mktemp("evolved") / "car")
    run_script("train_controller.py", "--run", run, ranks=3)
    return run


def test_extract_writes_every_episode_and_nothing_twice(car_run):
    paths = sorted((car_run / "record").glob("*.npz"))
    assert [path.name for path in paths] == [f"{index:06d}.npz" for index in range(4)]
    before = contents(car_run / "record")
    with np.load(paths[1]) as file:
        assert file["obs"].shape == (60, 64, 64, 3) and file["obs"].dtype == np.uint8
        assert file["action"].shape == (60, 3) and file["action"].dtype == np.float32
    paths[1].unlink()
    times = [path.stat().st_mtime_ns for path in (paths[0], paths[2])]
    done = run_script("extract.py", "--run", car_run, ranks=2)
    assert "1 episodes, 60 frames" in done.stdout and "frames/s" in done.stdout
    assert times == [path.stat().st_mtime_ns for path in (paths[0], paths[2])]
    assert contents(car_run / "record") == before  # which rank records an episode does not matter
    assert "all 4 episodes are recorded" in run_script("extract.py", "--run", car_run).stdout


def test_two_hosts_record_the_episodes_of_one(car_run, tmp_path):
    """The host file of docs/guide.md. Both addresses are this machine's; a script in the place of ssh starts the rank
    of the second, and MPICH gives them no common memory."""
    (tmp_path / "hosts").write_text("127.0.0.1:1\n127.0.0.2:1\n", encoding="utf-8")
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nwhile [ "${{1#-}}" != "$1" ]; do shift; done\necho "$1" >> {tmp_path}/started\n'
                   'shift\nexec sh -c "$*"\n', encoding="utf-8")  # fmt: skip
    ssh.chmod(0o755)
    begin, ranks = (
        launcher.mpirun(2)[:-2],
        ["-launcher", "ssh", "-launcher-exec", ssh, "-f", tmp_path / "hosts", "-n", "2"],
    )
    run = ["--run", tmp_path / "car", "--task", "carracing", "--preset", "smoke", *SMALL["carracing"].split()]
    command = [*begin, *ranks, sys.executable, ROOT / "extract.py", *run]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "started").read_text(encoding="utf-8") == "127.0.0.2\n"
    assert sorted(contents(tmp_path / "car/record").values()) == sorted(contents(car_run / "record").values())


def test_training_leaves_weights_curves_and_pictures(car_run):
    run = Run(car_run)
    assert all(run.is_current(name) for name in ("vae.weights.h5", "rnn.weights.h5", "series.npz", "initial_z.npz"))
    assert not list(car_run.glob("*.checkpoint.npz"))
    lines = [json.loads(line) for line in (car_run / "metrics.jsonl").read_text().splitlines()]
    assert {line["model"] for line in lines} == {"vae", "rnn"}
    assert all(np.isfinite(list(line.values())[3:]).all() for line in lines)
    assert list((car_run / "tensorboard/vae").iterdir())
    assert np.load(car_run / "initial_z.npz")["mu"].shape == (4, 32)


def test_training_killed_before_its_picture_only_draws_it(car_run):
    picture, weights = car_run / "pictures/reconstructions.png", car_run / "vae.weights.h5"
    first, trained = picture.read_bytes(), weights.stat().st_mtime_ns
    picture.unlink()
    run_script("train_vae.py", "--run", car_run)
    assert picture.read_bytes() == first and weights.stat().st_mtime_ns == trained
    assert "vae.weights.h5 exists" in run_script("train_vae.py", "--run", car_run).stdout


def test_the_curve_does_not_depend_on_the_number_of_ranks(evolved, tmp_path):
    """Three ranks evolved it, and one does here."""
    run = copy_of(evolved, tmp_path / "1")
    run_script("train_controller.py", "--run", run)
    assert curve(run) == curve(evolved)


@pytest.mark.parametrize("flags", ["--optimizer openai-es --dtype bfloat16", "--tracks replay --average 2"])
def test_another_search_gives_the_same_curve_on_any_number_of_ranks_and_when_it_grows(flags, evolved, tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    run_script("train_controller.py", "--run", two, "--from", evolved, *flags.split(), "--generations", "3", ranks=2)
    run_script("train_controller.py", "--run", one, "--from", evolved, *flags.split(), "--generations", "2")
    run_script("train_controller.py", "--run", one, "--generations", "3")
    whole, resumed, before = curve(two), curve(one), curve(evolved)
    assert resumed == whole != before[:3]
    if "openai-es" in flags:
        assert all(line["sigma"] == 0.1 for line in whole)


def test_the_kept_agent_is_the_best_scored_mean(evolved):
    best = json.loads((evolved / "controller/best.json").read_text())
    scored = {line["generation"]: line["evaluation"] for line in curve(evolved) if line["evaluation"]}
    assert set(scored) == {2, 4, 5}
    assert best["score"] == max(value["mean"] for value in scored.values())
    assert len(best["parameters"]) == 867


def test_evaluate_scores_films_and_keeps_its_rows(evolved, tmp_path):
    run = shutil.copytree(evolved, tmp_path / "car", symlinks=True)
    done = run_script("evaluate.py", "--run", run, "--episodes", "3", ranks=2)
    assert "906 ± 21" in done.stdout and not (run / "results.partial").exists()
    [row] = json.loads((run / "results.json").read_text())["results"]
    assert len(row["returns"]) == len(set(row["seeds"])) == 3
    assert [row[name] for name in ("vae", "rnn")] == [Run(run).digest(f"{name}.weights.h5") for name in ("vae", "rnn")]
    assert row["mean"] == pytest.approx(np.mean(row["returns"])) and row["std"] == pytest.approx(np.std(row["returns"]))
    films = {path.name for path in (run / "videos").iterdir()}
    assert films == {f"carracing-v0-{which}.mp4" for which in ("best", "median", "worst")}
    assert (run / "pictures/carracing-v0-worst.png").exists()
    run_script("evaluate.py", "--run", run, "--episodes", "2", "--view", "v3", "--no-video")
    run_script("evaluate.py", "--run", run, "--episodes", "2", "--no-video")
    rows = json.loads((run / "results.json").read_text())["results"]
    assert {(row["view"], row["episodes"]) for row in rows} == {("v0", 3), ("v3", 2), ("v0", 2)}
    again = next(new for new in rows if (new["view"], new["episodes"]) == ("v0", 2))
    assert again["returns"] == row["returns"][:2]  # the same seeds, on another number of ranks
    before = (run / "results.json").read_bytes()
    assert "906 ± 21" in run_script("evaluate.py", "--run", run, "--episodes", "1", "--no-save").stdout
    assert (run / "results.json").read_bytes() == before


def test_other_pictures_have_a_row_and_the_curves_a_table(evolved, tmp_path):
    run = shutil.copytree(evolved, tmp_path / "car", symlinks=True)
    said = run_script("evaluate.py", "--run", run, "--variant", "bars", "--episodes", "1", "--no-video").stdout
    assert "CarRacing, view v0, bars" in said
    run_script("tools.report", run, "--out", tmp_path / "report")
    assert "view v0, bars" in (tmp_path / "report/report.tex").read_text(encoding="utf-8")
    run_script("tools.report", run, "--csv", tmp_path / "curves.csv")
    head, *lines = (tmp_path / "curves.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 5 and all(line.count(",") == head.count(",") for line in lines)


def test_a_pack_is_a_run_that_cannot_be_changed(evolved, tmp_path):
    small = tmp_path / "pretrained/car"
    run_script("evaluate.py", "--run", evolved, "--episodes", "2", "--no-video")
    assert "MB" in run_script("tools.pack", "--run", evolved, "--out", small).stdout
    assert not (small / "record").exists() and not (small / "controller/checkpoint.npz").exists()
    card = (small / "README.md").read_text()
    assert all((small / picture).exists() for picture in re.findall(r"\]\((\S+\.png)\)", card))
    kept = contents(small)
    done = run_script("evaluate.py", "--run", small, "--episodes", "2", "--against", evolved)
    assert "is a pack: its results and films stay as they are" in done.stdout
    assert "on the same 2 episodes: +0.0 a return" in done.stdout and "better in 50%" in done.stdout
    assert "is a pack and read-only" in user_error("train_controller.py", "--run", small, "--generations", "9")
    assert {path: held for path, held in contents(small).items() if path.name != ".lock"} == kept
    before = json.loads((evolved / "results.json").read_text())["results"]
    run_script("evaluate.py", "--run", small, "--episodes", "2", "--no-video", "--save")
    after = json.loads((small / "results.json").read_text())["results"]
    assert {tuple(row["returns"]) for row in before} == {tuple(row["returns"]) for row in after}


def test_v_that_is_trained_again_is_the_same_to_the_bit(evolved, tmp_path):
    run = shutil.copytree(evolved, tmp_path / "run", symlinks=True)
    before = (run / "vae.weights.h5").read_bytes()
    (run / "vae.weights.h5").unlink()
    run_script("train_vae.py", "--run", run)
    assert (run / "vae.weights.h5").read_bytes() == before
    assert Run(run).is_current("rnn.weights.h5") and Run(run).is_current("controller/best.json")


def test_ablations_start_from_another_runs_v_and_m(evolved, tmp_path):
    run = tmp_path / "z"
    flags = ["--features", "z_hidden", "--generations", "1", "--eval-every", "1"]
    run_script("train_controller.py", "--run", run, "--from", evolved, *flags)
    assert len(json.loads((run / "controller/best.json").read_text())["parameters"]) == 1443
    untrained = tmp_path / "untrained"
    run_script("train_rnn.py", "--run", untrained, "--from", evolved, "--untrained", "rnn")
    assert (untrained / "vae.weights.h5").read_bytes() == (evolved / "vae.weights.h5").read_bytes()
    assert (untrained / "rnn.weights.h5").exists()
