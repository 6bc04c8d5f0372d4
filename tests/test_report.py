"""The report: our numbers from the run, the published ones from published.json, gaps left empty."""

import dataclasses
import json
import re

import pytest
from conftest import ROOT, run_script
from small_report import cells_of, make_car, make_run, result

from tools.reporting.card import card
from tools.reporting.pages import write_report
from tools.reporting.runs import read_runs, searches
from tools.reporting.tables import HEADER, results_table, searched, seconds_of, short_table, training_time
from world_models import config as configs
from world_models import published, results, tasks
from world_models.results import identity
from world_models.runs import config_file, packed, storage


def test_row_has_the_runs_and_the_published_numbers(car):
    text = (car / "report" / "report.md").read_text()
    row = json.loads((car / "results.json").read_text())["results"][0]
    line = dict(zip(HEADER, cells_of(text, "carracing")[0], strict=True))
    assert line["ours: mean ± std"] == f"{row['mean']:.1f} ± {row['std']:.1f}" == "854.2 ± 45.6"
    assert (line["episodes"], line["seed"], line["generation"]) == ("3", "0", "4")
    assert line["hardware of the test"] == row["hardware"]
    assert line["command"] == f"`mpirun -n 2 python {row['command']}`"
    assert line["training time"] == "V 40 s, M 20 s, C 4.0 h"
    full = published.read()["scores"]["carracing"][0]
    assert line["paper"] == f"{full['mean']} ± {full['std']}"
    peer = published.read()["peers"][2]["carracing"][0]
    assert f"{peer['mean']} ± {peer['std']} (AdeelMufti)" in line["peers"]
    for _, score, source in published.sources("carracing"):
        assert score in text and source in text


def test_missing_things_are_empty_cells(tmp_path):
    config = dataclasses.replace(tasks.preset("carracing", "smoke"), features="zch")
    run = make_run(tmp_path / "bare", config, [], trained=False)
    text = write_report(read_runs([run]), tmp_path / "out").read_text()
    line = dict(zip(HEADER, cells_of(text, "carracing")[0], strict=True))
    empty = {name for name, cell in line.items() if not cell}
    assert empty == set(HEADER) - {"task", "environment", "preset", "features", "seed"}
    assert not list((tmp_path / "out").glob("*.png"))
    assert "mean_reward" not in (tmp_path / "out" / "model_card.md").read_text()


def test_a_resumed_trainings_seconds_add_up():
    assert seconds_of([{"seconds": s} for s in (10, 30, 5, 20)]) == 50
    assert seconds_of([{"seconds": s} for s in (8, 16)]) == 16


def test_seeds_get_a_line_of_their_own(tmp_path):
    runs = []
    for seed, returns in enumerate(([100.0, 200.0], [300.0, 400.0], [500.0, 600.0])):
        config = dataclasses.replace(tasks.preset("carracing", "smoke"), seed=seed)
        runs.append(make_run(tmp_path / f"s{seed}", config, [result(config, returns)]))
    lines = cells_of(write_report(read_runs(runs), tmp_path / "out").read_text(), "carracing")
    assert [line[8] for line in lines] == ["0", "1", "2", "3 seeds: 0, 1, 2"]
    certain = "-146.9 to 846.9 (t), 150.0 to 550.0 (bootstrap)"
    assert lines[3][6:8] == [f"**350.0**, 95% interval over 3 seeds {certain}", "each 2"]
    # V and M are the same in all three: shown once.
    assert [path.name for path in (tmp_path / "out").glob("losses-*")] == ["losses-s0.png"]


def test_two_seeds_have_no_interval(tmp_path):
    runs = []
    for seed, returns in enumerate(([8.9, 8.9], [18.9, 18.9])):
        config = dataclasses.replace(tasks.preset("carracing", "smoke"), seed=seed)
        runs.append(make_run(tmp_path / f"s{seed}", config, [result(config, returns)], trained=False))
    (line,) = [line for line in cells_of(results_table(read_runs(runs)), "carracing") if "2 seeds" in line[8]]
    assert line[6] == "**13.9** (the mean of 2 seeds; an interval over seeds takes 3)"


def test_a_run_that_is_given_twice_counts_once(tmp_path):
    config = tasks.preset("doom", "smoke")
    run = make_run(tmp_path / "doom", config, [result(config, [1.0, 2.0])])
    cold = dataclasses.replace(config, temperature=0.5)
    part = make_run(run / "agents/temperature-0.5", cold, [result(cold, [3.0, 4.0])])
    runs = read_runs([part, run, tmp_path / "." / "doom", part])
    assert [found.path for found in runs] == [run] and [found.path for found in runs[0].parts] == [part]
    assert "2 seeds" not in results_table(runs)
    assert [len(group) for group in searches(runs)] == [1, 1]
    assert [found.name for found in read_runs([part])] == ["temperature-0.5"]


def test_a_packed_runs_report_goes_elsewhere(tmp_path):
    run = make_car(tmp_path / "car")
    packed.mark(run, None)
    assert "is a packed run and read-only" in run_script("tools.report", run, check=False).stderr
    assert not (run / "report").exists()


def test_dreams_of_other_lengths_are_other_experiments(tmp_path):
    config = dataclasses.replace(tasks.preset("doom", "smoke"), dream_frames=150)
    rows = [result(config, [900.0, 1100.0], env="dream"), result(config, [800.0, 1000.0])]
    older = {name: value for name, value in rows[1].items() if name not in results.RELEASED}
    storage.write_text(tmp_path / "old.json", json.dumps({"results": [older]}))
    assert [results.dreams_as_released(row) for row in results.read(tmp_path / "old.json")] == [True]
    runs = read_runs([make_run(tmp_path / "doom", config, rows)])
    text = write_report(runs, tmp_path / "out").read_text()
    assert {line[1] for line in cells_of(text, "doom")} == {
        "dream, τ 1.15, of 150 steps at most",
        "ViZDoom, trained at τ 1.15, of 150 steps at most",
    }
    assert published.score(rows[0]) is None and published.score(rows[1]) == (1092, 556)
    assert cells_of(text, "1.15")[0][2::2] == ["", ""]
    real = dataclasses.replace(config, env="real")
    assert [identity(real, env=env)["dream_frames"] for env in ("real", "dream")] == [0, 150]


def test_one_seed_or_another_experiment_gets_no_such_line(tmp_path):
    first = tasks.preset("carracing", "smoke")
    second = dataclasses.replace(first, seed=1, features="z")
    paths = [make_run(tmp_path / c.features, c, [result(c, [1.0, 2.0])], trained=False) for c in (first, second)]
    assert "interval" not in results_table(read_runs(paths))


def test_temperature_table(tmp_path):
    config = tasks.preset("doom", "smoke")
    rows = [
        result(config, [900.0, 1100.0], env="dream"),
        result(config, [800.0, 1000.0]),
        result(config, [300.0, 500.0], temperature=0.5, trained_temperature=0.5),
        result(config, [30.0, 50.0], temperature=0.1, trained_temperature=0.1, features="z"),
        result(config, [700.0, 900.0], env="dream", temperature=0.5),
    ]
    run = make_run(tmp_path / "doom", config, rows[:2] + rows[3:])
    part = make_run(run / "agents/temperature-0.5", dataclasses.replace(config, temperature=0.5), rows[2:3])
    runs = read_runs([run])
    text = write_report(runs, tmp_path / "out").read_text()
    entries = {e.get("temperature"): e for e in published.read()["scores"]["doom"]}
    theirs = {
        tau: [f"{e[f'{kind}_mean']} ± {e[f'{kind}_std']}" for kind in ("dream", "real")]
        for tau, e in entries.items()
        if tau
    }
    assert cells_of(text, "1.15")[0] == ["1.15", theirs[1.15][0], "1000.0 ± 100.0", theirs[1.15][1], "900.0 ± 100.0"]
    assert cells_of(text, "0.5")[0] == ["0.5", theirs[0.5][0], "", theirs[0.5][1], "400.0 ± 100.0"]
    assert cells_of(text, "0.1")[0] == ["0.1", theirs[0.1][0], "", theirs[0.1][1], ""]
    chance = next(e for e in published.read()["scores"]["doom"] if e.get("agent") == "random policy")
    expected = ["random policy", "", "", f"{chance['real_mean']} ± {chance['real_std']}", ""]
    assert cells_of(text, "random policy") == [expected]
    agents = [runs[0].agent(row) for row in runs[0].rows]
    assert [agent and agent.path for agent in agents] == [run, run, None, run, part]
    # A dream at another temperature than the agent's own is still a test of that agent.
    places = [line[1] for line in cells_of(text, "doom")]
    assert "dream, τ 1.15" in places and "dream, τ 0.5, trained at τ 1.15" in places
    assert {place for place in places if "ViZDoom" in place} == {
        f"ViZDoom, trained at τ {tau}" for tau in (0.1, 0.5, 1.15)
    }
    # The card has the parts' scores and commands too; its front matter has the run's own agent's only.
    assert (tmp_path / "out" / "model_card.md").read_text().count("type: mean_reward") == 1


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("config.json", None, "holds no run"),
        ("results.json", '{"results": [', "results.json is broken"),
        ("results.json", "[]x", "results.json is broken"),
        ("results.json", '{"rows": 1}', "not a results file"),
        ("controller/history.jsonl", '{"generation": 1\n{}\n', "line 1, is broken"),
    ],
)
def test_a_broken_file_is_named(tmp_path, file, text, expected):
    run = make_car(tmp_path / "car")
    (run / file).unlink() if text is None else (run / file).write_text(text)
    with pytest.raises(configs.UserError, match=expected):
        read_runs([run])


def test_users_errors_are_one_line(tmp_path):
    done = run_script("tools.report", tmp_path, check=False)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {tmp_path} holds no run")
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_line_still_being_written_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    line = {"model": "vae", "step": 1, "seconds": 0.5}
    path.write_text(json.dumps(line) + '\n{"mo')
    assert storage.read_lines(path) == [line]


def test_published_numbers_have_sources_and_stand_nowhere_else():
    data = published.read()
    entries = [entry for task in data["scores"].values() for entry in task]
    entries += [entry for peer in data["peers"] for entry in [*peer.get("carracing", []), peer.get("doom")] if entry]
    entries += data["others"]
    assert all(entry["source"] for entry in entries)
    assert all(curve["source"] and curve["evaluation_source"] for curve in data["training_curves"].values())
    numbers = {f"{entry[key]:g}" for entry in entries for key in ("mean", "dream_mean", "real_mean") if key in entry}
    names = ("tools/report.py", "world_models/published.py", "evaluate.py", "world_models/stages/evaluation.py")
    files = [*(ROOT / name for name in names), *(ROOT / "tools" / "reporting").glob("*.py")]
    assert ROOT / "tools" / "reporting" / "tables.py" in files
    for path in files:
        code = path.read_text()
        assert not [number for number in numbers if re.search(rf"\b{re.escape(number)}\b", code)], path


def test_a_page_gets_the_tables_between_its_comments(tmp_path):
    car = make_car(tmp_path / "car")
    page = tmp_path / "results.md"
    second = "<!-- published -->\n<!-- end of published -->\nlast\n"
    page.write_text(f"before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n{second}")
    for _ in range(2):
        run_script("tools.report", car, "--into", page)
        text = page.read_text()
        # What the paper reports and these runs did not measure keeps an empty row.
        assert "| CarRacing, view v0 | z | 632 ± 251 |" + "  |" * 12 + "\n" in text
        assert "| dream, τ 1.15 | zch | 918 ± 546 |" + "  |" * 12 + "\n" in text
        assert text.startswith("before\n<!-- results -->\n|")
        assert "<!-- end of results -->\nafter\n<!-- published -->\n| task |" in text
        assert (
            text.endswith("|\n<!-- end of published -->\nlast\n") and "| doom | AttentionAgent | 1125 ± 589 |" in text
        )
        assert (
            "old" not in text
            and text.count("| 854.2 ± 45.6 | 32.2 |  | 854.2 | 33% reach 900 |") == 1
            and "906 ± 21" in text
        )
    page.write_text("nothing")
    assert "<!-- results -->" in run_script("tools.report", car, "--into", page, check=False).stderr
    assert page.read_text() == "nothing"


def test_a_training_fitness_is_not_shown_as_a_test():
    row = identity(tasks.preset("carracing", "paper"), view="v3")
    (peer,) = published.peers(row)
    assert peer == "915.9 (flydexo, best training fitness of any candidate, not a test)"
    (line,) = [agent for agent, score, _ in published.sources("carracing") if score == "915.9"]
    assert "not a test" in line


def test_agents_of_several_seeds_are_one_line_of_the_docs_table(tmp_path):
    config = dataclasses.replace(tasks.preset("carracing", "smoke"), seed=4)
    run = make_run(tmp_path / "car", config, [result(config, [700.0])])
    for seed in (1, 2, 3):
        other = dataclasses.replace(config, features="z", seed=seed)
        rows = [result(other, [800.0 + 10 * seed, 900.0 + 10 * seed])]
        rows += [result(other, [100.0])] * (seed == 1)  # a shorter test counts for nothing
        make_run(run / f"agents/features-z,seed-{seed}", other, rows)
    other = dataclasses.replace(config, sigma=0.2, seed=4)
    make_run(run / "agents/sigma-0.2", other, [result(other, [500.0])])
    (found,) = read_runs([run])
    assert [found.agent(row).config.seed for row in found.rows] == [4, 1, 1, 2, 3, 4]
    lines = {line[1]: line for line in cells_of(short_table([found]), "CarRacing, view v0")}
    line = lines["z"]
    assert line[3:5] == ["**870.0** (860.0, 870.0, 880.0)", "5.8 over 3 seeds"]
    assert line[5] == "845.2 to 894.8 (t), 860.0 to 880.0 (bootstrap)"
    # Of all episodes together; four generations of 8 candidates with two episodes each.
    assert line[6:11] == ["870.0", "50% reach 900", "3 × 2", "64", "1, 2, 3"]
    assert lines["zh"][3] == "700.0 ± 0.0" and lines["zh, sigma-0.2"][3] == "500.0 ± 0.0"
    scores = cells_of(card(found, tmp_path), "CarRacing, view v0")
    assert [line[1] for line in scores][:2] == ["", "features-z,seed-1"] and scores[-1][1] == "sigma-0.2"


def test_a_later_round_s_agents_count_the_searches_that_they_went_on_from(tmp_path):
    config = dataclasses.replace(tasks.preset("carracing", "smoke"), round=2)
    run = make_run(tmp_path / "car", config, [result(config, [700.0])])
    make_run(run / "origins/1-car", dataclasses.replace(config, round=1), [])
    storage.write_text(run / "config.json", config_file.text(config, {"after": "../before"}))
    packed.mark(run, None)
    for restart in ("no", "yes"):
        other = dataclasses.replace(config, restart=restart, seed=1, sigma=0.2)
        make_run(run / f"agents/restart-{restart},seed-1", other, [result(other, [600.0])])
    (found,) = read_runs([run])
    assert [searched(found, row) for row in found.rows] == ["64 + 64", "64 + 64", "64"]
    assert [training_time(found, row).split("C ")[1] for row in found.rows] == ["8.0 h", "8.0 h", "4.0 h"]
