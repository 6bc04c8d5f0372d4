"""Rows of results that anybody may have written: they are read by their types, or named."""

import json

import pytest
from small_report import make_run, result

from tools.reporting.runs import read_run
from tools.reporting.tables import results_table
from world_models import tasks
from world_models.config import UserError
from world_models.runs.run import Run
from world_models.stages.evaluation import counterpart


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": None}, "its std is None"),
        ({"mean": "906"}, "its mean is '906'"),
        ({"returns": [1.0, "x", 2.0]}, "its returns is"),
        ({"seeds": [1, 2.5, 3]}, "its seeds is"),
        ({"seeds": [1]}, "different numbers of returns and of seeds"),
        ({"temperature": "1"}, "its temperature is '1'"),
        ({"env": "dream"}, "a row of a dream has no temperature"),
        ({"env": "game"}, "its env is 'game'"),
        ({"view": "v9"}, "has view 'v9'"),
        ({"episodes": "3"}, "its episodes is '3'"),
        ({"generation": "4"}, "its generation is '4'"),
    ],
)
def test_rows_of_results_are_read_strictly(changes, message, tmp_path):
    config = tasks.preset("carracing", "smoke")
    run = make_run(tmp_path / "car", config, [result(config, [800.5, 850.25, 912.0]) | changes], trained=False)
    with pytest.raises(UserError, match=rf"results\.json is not a results file: .*{message}"):
        read_run(run, "car")


def test_a_row_without_returns_is_reported_without_them_and_is_no_counterpart(tmp_path):
    config = tasks.preset("carracing", "smoke")
    row = result(config, [800.5, 850.25, 912.0])
    bare = {name: value for name, value in row.items() if name not in ("returns", "seeds")}
    run = make_run(tmp_path / "car", config, [bare], trained=False)
    assert results_table([read_run(run, "car")]).rows[0][4] == "854.2 ± 45.6"
    with pytest.raises(UserError, match=r"its results\.json has no test of"):
        counterpart(row, run)
    del bare["std"]
    Run(run).write_text("results.json", json.dumps({"results": [bare]}))
    with pytest.raises(UserError, match="its std is missing"):
        read_run(run, "car")
