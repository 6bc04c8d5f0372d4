"""Curves, rows of results and logs of commands that anybody may have written: read by their types, or named."""

import json

import pytest
from small_report import make_car, make_run, result
from small_run import edit_json

from tools.reporting.pages import write_report
from tools.reporting.runs import read_run
from tools.reporting.tables import short_table
from world_models import tasks
from world_models.config import UserError
from world_models.runs import command_log, storage
from world_models.stages.evaluation import counterpart
from world_models.stages.explorers import Explorers


def test_a_history_without_what_is_drawn_is_named(tmp_path):
    run = make_car(tmp_path / "car")
    (run / "controller" / "history.jsonl").write_text('{"generation": 1, "seconds": 1, "mean": 1}\n')
    with pytest.raises(UserError, match=r"history\.jsonl, line 1, is broken: its min is missing"):
        read_run(run, "car")


def test_a_packed_runs_history_without_a_sigma_is_named(copied):
    run, config = copied
    (run / "controller" / "checkpoint.npz").unlink()
    (run / "controller" / "history.jsonl").write_text('{"generation": 1, "seconds": 1, "mean": 1}\n')
    with pytest.raises(UserError, match=r"history\.jsonl, line 1, is broken: its sigma is missing"):
        Explorers(run, config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": None}, "its std is None"),
        ({"mean": "906"}, "its mean is '906'"),
        ({"returns": [1.0, "x", 2.0]}, "its returns is"),
        ({"seeds": [1, 2.5, 3]}, "its seeds is"),
        ({"seeds": [1]}, "other numbers of returns and of seeds"),
        ({"temperature": "1"}, "its temperature is '1'"),
        ({"env": "dream"}, "its temperature is None"),
        ({"env": "game"}, "its env is 'game'"),
        ({"view": "v9"}, "its view is 'v9'"),
        ({"episodes": "3"}, "its episodes is '3'"),
        ({"generation": "4"}, "its generation is '4'"),
    ],
)
def test_rows_of_results_are_read_strictly(changes, message, tmp_path):
    config = tasks.preset("carracing", "smoke")
    run = make_run(tmp_path / "car", config, [result(config, [800.5, 850.25, 912.0]) | changes])
    with pytest.raises(UserError, match=rf"results\.json is not a results file: .*{message}"):
        read_run(run, "car")


def test_a_row_without_returns_is_reported_without_them_and_no_counterpart(tmp_path):
    config = tasks.preset("carracing", "smoke")
    row = result(config, [800.5, 850.25, 912.0])
    bare = {name: value for name, value in row.items() if name not in ("returns", "seeds")}
    run = make_run(tmp_path / "car", config, [bare])
    assert "854.2 ± 45.6" in write_report([read_run(run, "car")], tmp_path / "out").read_text()
    assert "854.2 ± 45.6" in short_table([read_run(run, "car")])
    with pytest.raises(UserError, match=r"its results\.json has no test of"):
        counterpart(row, run)
    del bare["std"]
    storage.write_text(run / "results.json", json.dumps({"results": [bare]}))
    with pytest.raises(UserError, match="its std is missing"):
        read_run(run, "car")


@pytest.mark.parametrize("changes", [{"seconds": "90"}, {"started": 3}, {"ranks": None}, {"ended": None}])
def test_a_log_of_a_command_that_is_none_is_named(changes, tmp_path):
    line = {"command": "evaluate.py", "ranks": 2, "hardware": "", "started": "", "seconds": 90.0, "ended": True}
    path = tmp_path / "commands" / "20260101T000000-evaluate.json"
    storage.write_text(path, json.dumps(line))
    assert command_log.read(tmp_path) == [line]
    storage.write_text(path, json.dumps(line | changes))
    with pytest.raises(UserError, match=rf"evaluate\.json does not hold a command: its {next(iter(changes))} is"):
        command_log.read(tmp_path)


@pytest.mark.parametrize("changes", [{"score": "906"}, {"generation": 2.5}])
def test_a_reported_agent_is_read_strictly(changes, tmp_path):
    run = make_car(tmp_path / "car")
    edit_json(run / "controller" / "best.json", **changes)
    with pytest.raises(UserError, match=r"best\.json does not hold an agent: its "):
        read_run(run, "car")
