"""Tasks as data: one added from outside runs every stage; user errors about tasks are named."""

import json
import subprocess
import sys

import numpy as np
import pytest
import toy_task
from conftest import ROOT

from world_models import tasks
from world_models.config import UserError
from world_models.environments import make_env
from world_models.runs.begin import begin


def test_a_task_that_is_one_record_runs_all_stages(tmp_path):
    run = str(tmp_path / "toy")
    new = ["--task", "toy", "--preset", "smoke"]
    models = [["extract.py", "--run", run, *new], ["train_vae.py", "--run", run], ["train_rnn.py", "--run", run]]
    agent = [["train_controller.py", "--run", run], ["evaluate.py", "--run", run, "--episodes", "3"]]
    for commands in (models, [*agent, ["tools.report", run]]):  # training uses all cores of its process, play one
        call = [sys.executable, toy_task.__file__, json.dumps(commands)]
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "Drift" in done.stdout
    with np.load(tmp_path / "toy" / "record" / "000000.npz") as episode:
        assert episode["obs"].shape[1:] == (64, 64, 3) and episode["action"].shape[1:] == (1,)
    best = json.loads((tmp_path / "toy" / "controller" / "best.json").read_text())
    assert len(best["parameters"]) == 4 + 8 + 1  # [z, h] -> one number, and its bias
    [row] = json.loads((tmp_path / "toy" / "results.json").read_text())["results"]
    assert row["task"] == "toy" and row["view"] == "front" and row["temperature"] is None
    assert np.isfinite(row["returns"]).all() and len(row["returns"]) == 3
    assert (tmp_path / "toy" / "videos" / "toy-front-worst.mp4").exists()
    report = (tmp_path / "toy" / "report" / "report.md").read_text()
    assert "| toy, round 1, seed 0 | Drift, view front | z and h |" in report


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("policy", "release", "--policy: expected one of uniform, got 'release'"),
        ("view", "v0", "--view: expected one of front, side, got 'v0'"),
        ("mirror", "yes", "--mirror yes: Drift has no mirror image"),
        ("play_in", "dream", "--play-in dream: this M of Drift predicts no reward"),
    ],
)
def test_what_a_task_does_not_have_is_named(option, value, message, tmp_path, monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "toy", toy_task.TASK)
    with pytest.raises(UserError, match=message):
        begin(tmp_path / "new", {"task": "toy", "preset": "smoke", option: value})
    assert not (tmp_path / "new").exists()


def test_a_dream_paid_by_the_step_needs_its_end():
    with pytest.raises(UserError, match=r"--heads reward: .* dream is paid by the step; use end or end\+reward"):
        tasks.replace(tasks.preset("doom", "smoke"), heads="reward")


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=tasks.TASKS)
def test_a_record_agrees_with_its_environment(task):
    env = make_env(tasks.preset(task.name, "smoke"))
    np.testing.assert_array_equal(env.action_space.low, task.low)
    np.testing.assert_array_equal(env.action_space.high, 1)
    raw = np.random.default_rng(0).uniform(-1, 1, (50, task.action_size)).astype(np.float32)
    assert all(env.action_space.contains(action) for action in task.squash(raw, np))
    for policy in task.policies.values():
        player = policy(np.random.default_rng(0))
        assert all(env.action_space.contains(player.act(frame)) for frame in range(20))
    mirrored = np.float32(task.mirror) * np.float32([task.low, np.ones(task.action_size)])
    assert all(env.action_space.contains(action) for action in mirrored)
    env.close()
