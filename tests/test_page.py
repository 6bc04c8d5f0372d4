"""The page of dreams: what is written for a run, and of which it is not."""

import base64
import dataclasses
import io
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, SHIPPED, need_program
from PIL import Image
from small_run import episode_of, new_run, trust

from tools.page import source as sources
from tools.page import weights
from tools.page.__main__ import build
from world_models import results, tasks
from world_models.config import UserError
from world_models.runs import episodes as recordings
from world_models.runs.begin import begin
from world_models.runs.manifest import episode_digest
from world_models.runs.run import Run
from world_models.seeds import episode_seeds
from world_models.stages.film import Played


def test_weights_of_a_run_are_at_most_5_mb(site):
    for name in SHIPPED:
        assert 1e6 < (site / "runs" / f"{name}.js").stat().st_size < 5e6


def test_kernel_is_compiled_from_its_source(site, tmp_path):
    compiler = need_program("wat2wasm")
    subprocess.run([compiler, site / "kernel.wat", "-o", tmp_path / "kernel.wasm"], check=True)
    letters = re.findall(r'^  "([A-Za-z0-9+/=]+)"', (site / "kernel.js").read_text(), re.MULTILINE)
    assert base64.b64decode("".join(letters)) == (tmp_path / "kernel.wasm").read_bytes()


def test_pack_keeps_float16_and_bytes():
    arrays = {"a": np.float32([[1.5, -2.25, 1e-7]]), "b": np.uint8([3, 250]), "c": np.float32([65504.0])}
    packed = weights.pack(arrays)
    raw = zlib.decompress(base64.b85decode(packed["text"])[: packed["bytes"]])
    assert packed["arrays"] == [["a", [1, 3], "f2"], ["c", [1], "f2"], ["b", [2], "u1"]]
    halves = np.frombuffer(raw[:8], np.uint8).reshape(2, 4)[::-1].T.copy().view("<f2").ravel()
    np.testing.assert_array_equal(halves, np.float16([1.5, -2.25, 1e-7, 65504.0]))
    assert raw[8:] == bytes([3, 250])


def other_heads(run: Path) -> None:
    """M's weights of CarRacing."""
    shutil.copy(ROOT / "pretrained" / "carracing" / "rnn.weights.h5", run / "rnn.weights.h5")
    trust(run, "rnn.weights.h5")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("carracing", lambda run: (run / "vae.weights.h5").unlink(), "vae.weights.h5 is missing; make it with: python"),
        ("carracing", lambda run: (run / "rnn.weights.h5").unlink(), "rnn.weights.h5 is missing; make it with: python"),
        ("carracing", lambda run: (run / "initial_z.npz").unlink(), "initial_z.npz is missing; make it with: python"),
        ("carracing", lambda run: shutil.rmtree(run / "controller"), "holds no real frames"),
        ("doom", other_heads, "M of 512 units for doom"),
    ],
)
def test_a_run_that_lacks_something_is_one_line(name, change, said, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for part in ("config.json", "manifest.json", "vae.weights.h5", "rnn.weights.h5", "initial_z.npz"):
        shutil.copy(ROOT / "pretrained" / name / part, run / part)
    shutil.copytree(ROOT / "pretrained" / name / "controller", run / "controller")
    change(run)
    with pytest.raises(UserError, match=said):
        build([run], tmp_path / "site")


def test_runs_of_one_name_are_one_line(tmp_path):
    with pytest.raises(UserError, match="tells runs by their folders' names"):
        build([tmp_path / "a" / "doom", tmp_path / "b" / "doom"], tmp_path / "site")


def test_a_recorded_run_without_an_agent_shows_its_recording(car_run, tmp_path):
    run = shutil.copytree(car_run, tmp_path / "run", ignore=shutil.ignore_patterns("controller"))
    source = sources.read(Run(run))
    np.testing.assert_array_equal(source.game, recordings.read(recordings.complete(Run(run))[0])[0])
    assert source.parameters is None and "first recording" in source.game_of


@pytest.mark.parametrize(
    ("policy", "player"), [("release", "random play"), ("controller", "an agent"), ("curious", "an agent")]
)
def test_an_agents_recording_is_not_called_random(policy, player, tmp_path):
    run = new_run(tmp_path / "run")
    paths = [episode_of(run, index, round=2, policy=policy) for index in range(2)]  # a share of them may be random
    run.record_episodes({path.name: episode_digest(path) for path in paths})
    assert sources.real_episode(run, None, None, None, None)[1] == f"the run's first recording: 5 steps of {player}"


@pytest.mark.parametrize(
    ("row", "seed", "said"),
    [
        ({"returns": [5.0, 1.0, 3.0], "seeds": [15, 11, 13], "episodes": 3}, 13, "the median of C's 3 test episodes"),
        (None, episode_seeds(0, "test", 0, 1)[0], "an episode of C"),
    ],
)
def test_an_agent_plays_a_typical_episode(row, seed, said, car_run, monkeypatch):
    frames, played = np.zeros((7, 64, 64, 3), np.uint8), []
    monkeypatch.setattr(sources, "RealLanes", lambda *_: SimpleNamespace(close=lambda: None))
    one = Played(frames, np.zeros(7), 8.0)
    monkeypatch.setattr(sources, "play_episodes", lambda _, parameters, seeds: (played.extend(seeds), [one])[1])
    found = sources.real_episode(Run(car_run), None, None, np.zeros(867), row)
    assert found == (frames, f"{said}: 7 steps, return 8") and played == [seed]


def test_the_films_sheet_has_every_second_frame():
    frames = np.repeat(np.arange(0, 240, 6, dtype=np.uint8), 64 * 64 * 3).reshape(-1, 64, 64, 3)
    film = sources.film(frames)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(film.pop("picture").partition(",")[2]))))
    assert film == {"steps": 40, "every": 2, "columns": 16} and sheet.shape == (128, 1024, 3)
    assert np.abs(sheet[96, 32::64].mean(axis=-1)[:4] - frames[32::2, 0, 0, 0]).max() <= 3


def test_of_tests_of_one_kind_that_of_most_episodes_is_shown(tmp_path):
    run = begin(tmp_path / "run", {"task": "doom", "preset": "paper"})
    config = run.config
    for env, episodes, mean in (("real", 100, 900.0), ("real", 5, 1.0), ("dream", 3, 2.0), ("dream", 100, 1000.0)):
        row = results.identity(config, play_in=env) | {"mean": mean, "std": 1.0, "episodes": episodes}
        row |= {"returns": [mean] * episodes, "seeds": list(range(episodes))}
        results.add(run, row)
    found = [(entry["by"], entry["where"], entry["mean"]) for entry in sources.scores(sources.tests(run))]
    paper = [("paper", "dream", 918), ("paper", "real", 1092)]
    assert found == [("ours", "dream", 1000.0), paper[0], ("ours", "real", 900.0), paper[1]]


@pytest.mark.parametrize(
    ("task", "changes", "said"),
    [
        ("carracing", {"rnn_steps": 300}, "300 steps, the paper's M for 4,000. Its dream loses the road"),
        ("doom", {"rnn_steps": 2680}, "2,680 steps, the paper's M for 24,400."),
        ("doom", {}, ""),
        ("doom", {"rnn_steps": 300, "untrained": "rnn"}, ""),
        ("doom", {"rnn_steps": 300, "untrained": "vae+rnn"}, ""),
        ("doom", {"rnn_steps": 300, "round": 2}, ""),  # what the first round had is not known here
    ],
)
def test_an_m_of_fewer_steps_than_the_papers_says_so(task, changes, said, tmp_path):
    config = dataclasses.replace(tasks.preset(task, "paper"), **changes)
    found = sources.short_training(Run(tmp_path, config))
    assert said in found and bool(said) == bool(found)


def test_a_later_round_s_m_has_the_steps_of_all_rounds():
    assert sources.rnn_steps(Run(ROOT / "pretrained" / "carracing")) == (300 + 150 + 300, 3)


def test_controls_name_every_number_of_an_action():
    for task in tasks.TASKS.values():
        row = sources.controls_of(task)
        actions = row["actions"]
        assert len(actions) == task.action_size
        assert {key["action"] for key in row["keys"]} == set(range(len(actions)))
        squashed = [np.clip(a["scale"] * np.linspace(-1, 1, 9) + a["offset"], a["low"], a["high"]) for a in actions]
        outputs = np.repeat(np.linspace(-1, 1, 9)[:, None], len(actions), axis=1)
        np.testing.assert_allclose(np.stack(squashed, axis=1), task.squash(outputs, np))


def test_a_task_without_a_row_gets_the_arrow_keys():
    swimmer = tasks.Task("swimmer", "Swimmer-v5", "", "", "Swimmer-v5", None, (-1.0, -1.0), {}, 20)
    row = sources.controls_of(swimmer)
    assert row["fps"] == 20 and row["title"] == "Swimmer-v5"
    assert [key["action"] for key in row["keys"]] == [0, 0, 1, 1]
