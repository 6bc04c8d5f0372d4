"""The report: our numbers from the runs, the published ones from published.json, gaps left empty."""

import dataclasses
import json
import os
import re

import pytest
from conftest import ROOT, run_script, user_error
from small_report import cells_of, make_car, make_run, result

from tools.reporting import tables
from tools.reporting.markup import Media, Notes, Table, Text, to_html, to_latex, to_markdown
from tools.reporting.pages import write_report
from tools.reporting.runs import read_run, read_runs, searches
from world_models import config as configs
from world_models import published, tasks, text
from world_models.runs import files
from world_models.runs.run import Run


def seeds_of(tmp_path, *returns, **changes):
    """Runs that differ in their seed alone."""
    paths = []
    for seed, values in enumerate(returns):
        config = dataclasses.replace(tasks.preset("carracing", "smoke"), seed=seed, **changes)
        paths.append(make_run(tmp_path / f"s{seed}", config, [result(config, values)]))
    return read_runs(paths)


def test_a_row_has_the_runs_and_the_published_numbers(car):
    page = (car / "report" / "report.md").read_text(encoding="utf-8")
    (line,) = [cells for cells in cells_of(page, "car, round 1, seed 0") if "CarRacing, view v0" in cells]
    full = published.read()["scores"]["carracing"][0]
    assert line[1:4] == ["CarRacing, view v0", "z and h", f"{full['mean']} ± {full['std']}"]
    # By hand: 55.85 / sqrt 3; three episodes have no interval; four generations of 8 candidates with 2 episodes.
    assert line[4:] == ["854.2 ± 45.6 [32.2]", "", "854.2", "3 / 64"]
    assert f"\npython evaluate.py --run {car} --episodes 3\n" in page
    (made,) = [cells for cells in cells_of(page, "car, round 1, seed 0: C sees z and h") if "4 of 4" in cells]
    assert made[1:6] == ["4 of 4", "64", "40 s", "20 s", "4.0 h"]
    for _, played, score, _, source in published.sources("carracing"):
        assert score in page and text.markdown(source) in page and played


def test_the_report_is_one_html_page_and_a_latex_table_too(car):
    page = (car / "report" / "report.html").read_text(encoding="utf-8")
    assert "<td>854.2 ± 45.6 [32.2]</td>" in page and '<img src="../pictures/reconstructions.png"' in page
    assert '<video controls src="../videos/carracing-v0-best.mp4">' in page
    table = (car / "report" / "report.tex").read_text(encoding="utf-8")
    assert table.startswith(f"% {tables.METHOD}\n") and r"\caption{Mean $\pm$" in table
    (row,) = [line for line in table.splitlines() if line.startswith("car, round 1")]
    assert row.count(" & ") == 7 and r"854.2 $\pm$ 45.6 [32.2]" in row and row.endswith(r"\\")
    assert re.findall(r"\\(toprule|midrule|bottomrule)", table) == ["toprule", "midrule", "bottomrule"]


def test_what_was_not_measured_is_an_empty_cell(tmp_path):
    config = dataclasses.replace(tasks.preset("carracing", "smoke"), features="zch")
    run = make_run(tmp_path / "bare", config, [], trained=False)
    (page, *_) = write_report(read_runs([run]), tmp_path / "out")
    assert cells_of(page.read_text(encoding="utf-8"), "bare, round 1, seed 0: C sees z, c and h")[0][1:6] == [""] * 5
    assert not list((tmp_path / "out").glob("*.png"))


def test_numbers_have_sensible_digits():
    assert text.plus_minus(873.84, 66.71) == "873.8 ± 66.7" and text.plus_minus(0.62, 0.31) == "0.62 ± 0.31"
    assert text.plus_minus(-0.001, 12.0) == "0.0 ± 12.0" and text.plus_minus(0.0, 0.0) == "0.0 ± 0.0"
    assert text.plus_minus(5.0, 0.0) == "5.0 ± 0.0" and text.plus_minus(1.0, 0.0123) == "1.000 ± 0.012"
    assert [text.duration(seconds) for seconds in (40, 90, 7200)] == ["40 s", "1.5 min", "2.0 h"]


def test_a_resumed_trainings_seconds_add_up():
    assert tables.seconds_of([{"seconds": s} for s in (10, 30, 5, 20)]) == 50


def test_seeds_get_a_line_of_their_own(tmp_path):
    runs = seeds_of(tmp_path, [100.0, 200.0], [300.0, 400.0], [500.0, 600.0])
    found = tables.results_table(runs).rows
    assert [row[0] for row in found[:3]] == [f"s{seed}, round 1, seed {seed}" for seed in range(3)]
    # Of the means 150, 350 and 550: standard deviation 200, standard error 200 / sqrt 3, times t of 4.303.
    assert found[3][0] == "s0, round 1, seeds 0, 1, 2"
    assert found[3][4:] == ["350.0 ± 200.0 [115.5]", "-146.9 to 846.9", "350.0", "3 × 2 / 64"]
    two = seeds_of(tmp_path / "two", [8.9, 8.9], [18.9, 18.9])
    assert tables.results_table(two).rows[2][4:6] == ["13.9 ± 7.1 [5.0]", ""]
    other = [*seeds_of(tmp_path / "one", [1.0]), *seeds_of(tmp_path / "z", [1.0], features="z")]
    assert len(tables.results_table(other).rows) == 2


def test_agents_of_several_seeds_are_one_line(tmp_path):
    config = dataclasses.replace(tasks.preset("carracing", "smoke"), seed=4)
    run = make_run(tmp_path / "car", config, [result(config, [700.0])])
    for seed in (1, 2, 3):
        other = dataclasses.replace(config, features="z", seed=seed)
        rows = [result(other, [800.0 + 10 * seed, 900.0 + 10 * seed])]
        rows += [result(other, [100.0])] * (seed == 1)  # a shorter test counts for nothing
        make_run(run / f"agents/features-z,seed-{seed}", other, rows)
    other = dataclasses.replace(config, sigma=0.2)
    make_run(run / "agents/sigma-0.2", other, [result(other, [500.0])])
    found = {row[0]: row for row in tables.results_table([read_run(run, "car")]).rows}
    agents = ["car, agents, round 1, seeds 1, 2, 3", "car, agents, round 1, seed 4, sigma 0.2"]
    assert list(found) == ["car, round 1, seed 4", *agents]
    cells = found["car, agents, round 1, seeds 1, 2, 3"][4:]
    assert cells == ["870.0 ± 10.0 [5.8]", "845.2 to 894.8", "870.0", "3 × 2 / 64"]


def rounds(tmp_path, name: str = "car", **changes):
    """A run of round 3 with its rounds."""
    before, path = None, tmp_path / name
    for number in (1, 2, 3):
        start = tasks.preset("carracing", "smoke")
        config = dataclasses.replace(start, round=number, **(changes if number == 3 else {}))
        path = tmp_path / f"{name}-{number}"
        before = make_run(path, config, [result(config, [100.0 * number, 110.0 * number])], before=before)
    return path.rename(tmp_path / name)


def test_rounds_keep_their_order_and_count_the_searches_that_they_went_on_from(tmp_path):
    run = read_run(rounds(tmp_path), "car")
    found = [(row[0], row[7]) for row in tables.results_table([run]).rows]
    assert found == [(f"car, round {number}, seed 0", f"2 / {64 * number}") for number in (1, 2, 3)]
    assert [row[2] for row in tables.made_table([run]).rows] == ["64", "64 + 64", "64 + 64 + 64"]
    expected = [["1", "12 random", "64"], ["2", "12 of round 1", "64"], ["3", "12 of round 2", "64"]]
    assert [row[:3] for row in tables.rounds_table(run).rows] == expected
    points = tables.scores_by_episodes([run], "carracing")[0][1]
    assert [point[:2] for point in points] == [(64, 105.0), (128, 210.0), (192, 315.0)]
    fresh = read_run(rounds(tmp_path, "fresh", search_start="zero"), "fresh")
    assert tables.results_table([fresh]).rows[-1][7] == "2 / 64"


def test_a_round_that_two_runs_share_is_reported_once(tmp_path):
    first = rounds(tmp_path)
    later = dataclasses.replace(Run(first).config, round=4)
    other = make_run(tmp_path / "other", later, [result(later, [9.0])], before=rounds(tmp_path / "copy"))
    found = [row[0] for row in tables.results_table(read_runs([first, other])).rows]
    assert found == [*(f"car, round {number}, seed 0" for number in (1, 2, 3)), "other, round 4, seed 0"]


def test_a_run_that_is_given_twice_counts_once(tmp_path):
    config = tasks.preset("doom", "smoke")
    run = make_run(tmp_path / "doom", config, [result(config, [1.0, 2.0])])
    cold = dataclasses.replace(config, temperature=0.5)
    part = make_run(run / "agents/temperature-0.5", cold, [result(cold, [3.0, 4.0])])
    runs = read_runs([part, run, tmp_path / "." / "doom", part])
    assert [found.path for found in runs] == [run] and [found.path for found in runs[0].agents] == [part]
    entries = {entry.get("temperature"): entry for entry in published.read()["scores"]["doom"]}
    papers = [f"{entries[tau]['real_mean']} ± {entries[tau]['real_std']}" for tau in (1.15, 0.5)]
    rows = tables.results_table(runs).rows
    assert [row[1] for row in rows] == ["ViZDoom, trained at τ 1.15", "ViZDoom, trained at τ 0.5"]
    assert [row[3] for row in rows] == papers
    assert len(searches(runs)) == 2 and [found.name for found in read_runs([part])] == ["temperature-0.5"]


def test_a_report_of_a_pack_goes_elsewhere(tmp_path):
    run = make_car(tmp_path / "car")
    manifest = Run(run).manifest
    manifest.packed = True
    manifest.save()
    assert "is a pack and read-only" in user_error("tools.report", run)
    assert not (run / "report").exists()


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.json", None, "holds no run"),
        ("results.json", '{"results": [', "results.json was modified"),
        ("controller/history.jsonl", '{"generation": 1\n{}\n', "line 1, is broken"),
        ("controller/history.jsonl", '{"generation": 1, "seconds": 1, "mean": 1}\n', "its min is missing"),
        ("controller/best.json", '{"score": "906"}', "does not hold an agent: its score is '906'"),
        ("controller/best.json", '{"generation": 2.5}', "does not hold an agent: its generation is 2.5"),
    ],
)
def test_a_broken_file_is_named(tmp_path, file, content, expected):
    run = make_car(tmp_path / "car")
    (run / file).unlink() if content is None else (run / file).write_text(content, encoding="utf-8")
    with pytest.raises(configs.UserError, match=expected):
        read_runs([run])


def test_a_line_still_being_written_is_left_out(tmp_path):
    path, line = tmp_path / "metrics.jsonl", {"model": "vae", "step": 1, "seconds": 0.5}
    path.write_text(json.dumps(line) + '\n{"mo', encoding="utf-8")
    assert files.read_lines(path) == [line]


EVIL = "\x1b[2Jx\u202e<script>alert(1)</script>](http://evil) | `"


def test_what_a_file_says_reaches_no_terminal_and_no_page_as_code(tmp_path):
    assert text.printable("a\x1b[31mb\nc\u202e±τ") == "a\\x1b[31mb\\nc\\u202e±τ"
    assert text.latex("50% of $x_1$ \\ ±") == r"50\% of \$x\_1\$ \textbackslash{} $\pm$"
    blocks = [Text(EVIL), Notes(EVIL), Table((EVIL,), [[EVIL]]), Media("a b.png", EVIL)]
    for page in (to_html(EVIL, blocks), to_markdown(blocks), to_latex(blocks[2], "caption")):
        assert "\x1b" not in page and "\u202e" not in page
    assert "<script>" not in to_html(EVIL, blocks) + to_markdown(blocks)
    assert not re.search(r"(?<!\\)(\]\(http|[`|])", to_markdown([Text(EVIL)]))
    config = tasks.preset("carracing", "smoke")
    name = os.fsdecode(b"a<b>c $\\frac$ \xe9\x1b")  # mathematics that is wrong, what is not UTF-8, and an escape
    run = make_run(tmp_path / name, config, [result(config, [1.0], command=f"{EVIL} ```\nthe end", hardware=EVIL)])
    for page in write_report(read_runs([run]), tmp_path / "out"):
        content = page.read_text(encoding="utf-8")
        outside = "".join(content.split("```")[::2])  # of blocks of code, in which nothing is HTML
        assert "\x1b" not in content and "\u202e" not in content
        assert page.suffix == ".tex" or not any(words in outside for words in ("a<b>c", "<script>", "the end"))


def test_published_numbers_have_sources_and_stand_nowhere_else():
    data = published.read()
    entries = [entry for task in data["scores"].values() for entry in task] + data["others"]
    curves = [*data["training_curves"].values(), *data["scores_by_episodes"]["carracing"]]
    assert all(entry["source"] for entry in [*entries, *curves])
    numbers = {f"{entry[key]:g}" for entry in entries for key in ("mean", "dream_mean", "real_mean") if key in entry}
    names = ("tools/report.py", "world_models/published.py", "evaluate.py", "world_models/stages/evaluation.py")
    for path in (*(ROOT / name for name in names), *(ROOT / "tools" / "reporting").glob("*.py")):
        code = path.read_text(encoding="utf-8")
        assert not [number for number in numbers if re.search(rf"\b{re.escape(number)}\b", code)], path


def test_a_training_fitness_is_not_shown_as_a_test():
    (line,) = [line for line in published.sources("carracing") if line[2] == "915.9"]
    assert "not a test" in line[1]


def test_a_page_gets_the_tables_between_its_comments(tmp_path):
    car = make_car(tmp_path / "car")
    page = tmp_path / "results.md"
    second = "<!-- published -->\n<!-- end of published -->\nlast\n"
    page.write_text(f"before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n{second}", encoding="utf-8")
    for _ in range(2):
        run_script("tools.report", car, "--into", page)
        content = page.read_text(encoding="utf-8")
        assert content.startswith("before\n<!-- results -->\n| agent |") and "old" not in content
        assert content.count("| 854.2 ± 45.6 [32.2] |") == 1
        assert "<!-- end of results -->\nafter\n<!-- published -->\n| agent |" in content
        assert "| AttentionAgent | DoomTakeCover-v0 | 1125 ± 589 | 100 |" in content
    page.write_text("nothing", encoding="utf-8")
    assert "<!-- results -->" in user_error("tools.report", car, "--into", page)
    assert page.read_text(encoding="utf-8") == "nothing"
