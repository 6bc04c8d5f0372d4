"""The study of the search: equal episodes, and what its table says."""

import argparse
import json
import shutil

import numpy as np
import pytest
from conftest import ROOT, run_script

from tools import study, study_scores, study_settings
from world_models import config as configs
from world_models import tasks
from world_models.config import UserError
from world_models.runs import run_dir, storage

ARGS = argparse.Namespace(episodes=6144, every=500, test_episodes=64, temperature=None, lanes=None)


@pytest.mark.parametrize("name", study_settings.SETTINGS)
@pytest.mark.parametrize("task", ["carracing", "doom"])
def test_every_setting_is_valid_and_spends_as_many_episodes(name, task):
    base = tasks.preset(task, "laptop")
    if not study.valid(name, base):
        with pytest.raises(UserError, match=f"--settings {name}: nothing is known to be lost early"):
            study.chosen(name, base)
        return
    given = study.overrides(name, 1, base, ARGS)
    config = tasks.check(configs.Config(**{**vars(base), **given}))
    spent = study_scores.spent_by(config)
    following = config.population * configs.rollouts_at(config.rollouts, config.generations + 1)
    assert spent[-1] <= 6144 < spent[-1] + following
    between = np.diff(spent[config.eval_every - 1 :: config.eval_every])
    assert between.max() <= max(750, following)
    assert config.seed == 1 and config.eval_episodes == 64


def test_generations_follow_the_schedule():
    rising = dict(population=10, rollouts="1,3:4")  # 10, 20, then 40 more each
    assert [study.generations_for(rising, n) for n in (5, 10, 20, 59, 60, 100)] == [1, 1, 2, 2, 3, 4]


def write_run(run, name: str, seed: int, scores: list[float]) -> None:
    base = tasks.preset("carracing", "laptop")
    given = study.overrides(name, seed, base, argparse.Namespace(**{**vars(ARGS), "episodes": 192 * len(scores)}))
    run_dir.save(configs.Config(**{**vars(base), **given}), run)
    same = {"mean": 0.0, "mean_steps": 900.0 + seed}
    lines = [
        {"generation": g, "seconds": 10.0 * g, **same, "evaluation": {"mean": score}}
        for g, score in enumerate(scores, 1)
    ]
    storage.write_lines(run / "controller" / "history.jsonl", lines)


def test_table_and_plot_say_what_the_runs_scored(tmp_path):
    write_run(tmp_path / "48x4" / "seed-0", "48x4", 0, [0, 100, 200, 300])
    write_run(tmp_path / "48x4" / "seed-1", "48x4", 1, [100, 200, 300, 500])
    write_run(tmp_path / "ga" / "seed-0", "ga", 0, [0, 10, 20, 30])
    study_scores.write(tmp_path, 768, mark=200)
    table = (tmp_path / "search.md").read_text()
    assert "| 48x4 | no | 2 | 50 ± 50 | 150 ± 50 | 250 ± 50 | 400 ± 100 | 480 ± 96 | 25 ± 5 | 900 ± 0 |" in table
    assert "| ga | `--optimizer ga` | 1 | 0 | 10 | 20 | 30 |  |  | 900 |" in table
    assert (tmp_path / "search.png").stat().st_size > 10_000
    [ga] = study_scores.by_setting(tmp_path)["ga"]
    assert study_scores.points(ga) == [(192, 0), (384, 10), (576, 20), (768, 30)]
    shutil.rmtree(tmp_path / "48x4")  # what search.json keeps of runs that are gone
    study_scores.write(tmp_path, 768, mark=200)
    assert (tmp_path / "search.md").read_text() == table
    assert study.complete(tmp_path, tmp_path / "48x4" / "seed-1", 768)
    for run, episodes in (("48x4/seed-1", 1000), ("48x4/seed-2", 768), ("ga/seed-0", 768)):
        assert not study.complete(tmp_path, tmp_path / run, episodes)
    assert study_scores.at([(10, 1.0), (20, 3.0)], 15) == 2 and np.isnan(study_scores.at([(10, 1.0)], 5))


@pytest.mark.parametrize(
    "line",
    [{"generation": 9, "evaluation": {"mean": 1}}, {"generation": 0, "evaluation": {"mean": 1}}, {"generation": 1}],
)
def test_a_history_of_another_run_is_named(line, tmp_path):
    write_run(tmp_path, "ga", 0, [0, 10])
    same = {"seconds": 1, "mean": 0, "mean_steps": 900}
    storage.write_lines(tmp_path / "controller" / "history.jsonl", [same | line])
    with pytest.raises(UserError, match=r"history\.jsonl is not a history of this run"):
        study_scores.course(tmp_path)


@pytest.mark.parametrize("name, generations", [("ga", 20), ("48-rising", 38)])
def test_a_run_goes_on_to_more_episodes_and_keeps_its_generations(name, generations, tmp_path):
    base, out = tmp_path / "base", tmp_path / "study"
    config = tasks.preset("carracing", "laptop")
    run_dir.save(config, base)
    given = [study.overrides(name, 0, config, argparse.Namespace(**vars(ARGS) | {"episodes": n})) for n in (400, 4000)]
    begun = study.open_run(out, given[0], base)
    assert begun.generations < generations
    run_dir.save(study.open_run(out, given[1], base), out)
    again = study.open_run(out, given[0], base)
    assert (again.generations, again.eval_every) == (generations, begun.eval_every)


def test_a_second_rounds_models_are_compared_from_zero():
    config = tasks.preset("carracing", "laptop")
    second = tasks.replace(config, round=2)
    assert study.overrides("48x4", 0, second, ARGS)["restart"] == "yes"
    assert "restart" not in study.overrides("48x4", 0, config, ARGS)


@pytest.mark.parametrize(
    "name, episodes, mark",
    [("doom", 2048, 1000), ("carracing", 6144, 700), ("second-round", 2304, 800), ("patience", 2304, 700)],
)
def test_the_documented_tables_are_of_the_numbers_beside_them(name, episodes, mark, tmp_path):
    shutil.copy(ROOT / "docs" / "search" / f"{name}.json", tmp_path / "search.json")
    assert study_scores.table(tmp_path, episodes, mark) in (ROOT / "docs" / "search.md").read_text()


@pytest.mark.parametrize("kept", ['{"ga/seed-0": [[1, 2]]}', '{"ga/seed-0": {"spent": [1]}}', "[]"])
def test_a_file_that_holds_no_courses_is_named(kept, tmp_path):
    (tmp_path / "search.json").write_text(kept)
    with pytest.raises(UserError, match=r"search\.json"):
        study_scores.courses(tmp_path)


def test_a_setting_that_there_is_not_is_named():
    doom = tasks.preset("doom", "laptop")
    with pytest.raises(UserError, match=r"--settings: expected some of 48x4, .*, got 48x5"):
        study.chosen("48x4,48x5", doom)
    assert not [name for name in study.chosen(None, doom) if "patience" in name]
    assert study.chosen(None, tasks.preset("carracing", "laptop")) == list(study_settings.SETTINGS)


def test_a_study_goes_on_where_it_stopped(doom_run, tmp_path):
    command = ["tools.study", "--run", doom_run, "--out", tmp_path, "--settings", "24x2", "--seeds", "1"]
    command += ["--every", "48", "--test-episodes", "3", "--episodes"]
    run_script(*command, "48", ranks=2)
    first = (tmp_path / "24x2" / "seed-0" / "controller" / "history.jsonl").read_text().splitlines()
    run_script(*command, "96")
    lines = (tmp_path / "24x2" / "seed-0" / "controller" / "history.jsonl").read_text().splitlines()
    assert len(first) == 1 and len(lines) == 2 and lines[0] == first[0]
    scores = [json.loads(line)["evaluation"]["mean"] for line in lines]
    assert f"| {scores[0]:.0f} | " in (tmp_path / "search.md").read_text()
    done = run_script(*command, "96", "--temperature", "0.5", "--seeds", "2", check=False)
    assert done.returncode == 2 and "holds a study of another temperature; choose another --out" in done.stderr
