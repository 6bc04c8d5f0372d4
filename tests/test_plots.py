"""The report's pictures: curves of training, histograms of tests; seeds together."""

import csv
import dataclasses
import io
import json
import shutil

import numpy as np
from conftest import ROOT, run_script
from PIL import Image
from small_report import make_car, make_run, result

from tools.reporting import names, plots
from tools.reporting.curves import curves_csv
from tools.reporting.pages import is_part_of_another, write_report
from tools.reporting.plots import together
from tools.reporting.runs import read_runs, searches
from world_models import tasks
from world_models.runs import run_dir, storage


def test_pictures_are_there_and_not_blank(car):
    names = {path.name for path in (car / "report").glob("*.png")}
    assert names == {"training-carracing.png", "histogram-carracing.png", "losses.png", "reconstructions.png"}
    text = (car / "report" / "report.md").read_text()
    for name in names:
        assert f"({name})" in text
        assert np.asarray(Image.open(car / "report" / name).convert("L"), float).std() > 10


def test_five_temperatures_of_two_seeds(tmp_path):
    """More lines than matplotlib has named styles for; and a panel for each, titled by its temperature."""
    paths = []
    for tau in (0.1, 0.5, 1.0, 1.15, 1.3):
        for seed in (0, 1):
            config = dataclasses.replace(tasks.preset("doom", "laptop"), temperature=tau, seed=seed)
            rows = [result(config, [100.0 * tau, 200.0])]
            paths.append(make_run(tmp_path / f"{tau}-{seed}", config, rows))
    runs = read_runs(paths)
    write_report(runs, tmp_path / "out")
    assert {"training-doom.png", "histogram-doom.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert [len(group) for group in searches(runs)] == [2] * 5
    titles = names.titles([names.of_search(group[0]) for group in searches(runs)], "env")
    assert titles == [f"dream, τ {tau:g}" for tau in (0.1, 0.5, 1.0, 1.15, 1.3)]


def test_losses_of_seeds_are_one_curve_with_a_band(tmp_path, monkeypatch):
    runs, bands = [], []
    for seed in range(3):
        config = dataclasses.replace(tasks.preset("carracing", "smoke"), seed=seed)
        run = make_run(tmp_path / f"s{seed}", config, [result(config, [1.0, 2.0])])
        text = (run / "metrics.jsonl").read_text().replace('"vae_loss": 4.5', f'"vae_loss": {4.5 + seed}')
        storage.write_text(run / "metrics.jsonl", text)
        runs.append(run)
    monkeypatch.setattr(plots, "save", lambda figure, path: bands.append(figure))
    plots.losses(tmp_path / "x.png", [run.metrics for run in read_runs(runs)])
    (line, *_), (band, *_) = bands[0].axes[0].lines, bands[0].axes[0].collections
    assert line.get_ydata()[0] == 5.5 and (band.get_paths()[0].vertices[:, 1].min(), len(bands[0].axes)) == (2.25, 2)
    monkeypatch.undo()
    text = write_report(read_runs(runs), tmp_path / "out").read_text()
    assert text.count("## V and M: s0, s1, s2; pictures of s0") == text.count("the mean of 3 runs in a band") == 1
    assert [path.name for path in (tmp_path / "out").glob("losses-*")] == ["losses-s0.png"]


def test_five_runs_of_three_seeds_are_reported(tmp_path):
    """Copies of a shipped run, of its size, by the command, its start included."""
    shipped = ROOT / "pretrained" / "doom"
    paths = []
    for tau in (0.1, 0.5, 1.0, 1.15, 1.3):
        for seed in (0, 1, 2):
            run = tmp_path / f"{tau}-{seed}"
            shutil.copytree(shipped, run, ignore=shutil.ignore_patterns("agents", "*.h5", "report", "videos"))
            rows = json.loads((run / "results.json").read_text())["results"]
            changes = {"temperature": tau, "trained_temperature": tau, "seed": seed}
            rows = [row | changes for row in rows if row["temperature"] == row["trained_temperature"]]
            run_dir.save(dataclasses.replace(run_dir.load(run), temperature=tau, seed=seed), run)
            storage.write_text(run / "results.json", json.dumps({"results": rows}))
            paths.append(run)
    run_script("tools.report", *paths, "--out", tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.count("3 seeds: 0, 1, 2") == 10  # in the dream and in the game
    assert (tmp_path / "out" / "training-doom.png").stat().st_size > 10_000


def test_the_histograms_legends_are_inside_the_picture(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, _: figures.append(figure))
    returns = {f"a-folder-with-a-{'rather-' * k}long-name, seed {k}, 100 episodes": [700.0, 800.0] for k in range(15)}
    title = "CarRacing, view v0, C sees zh, rollouts 1,15:2,30:4,50:8, restart yes, sigma 0.1, seeds common, lanes 48"
    panels = [(title, returns, (906.0, 21.0))]
    for shown in (panels, 2 * panels):
        plots.histograms(tmp_path / "x.png", "carracing", shown)
        figure = figures.pop()
        figure.draw_without_rendering()
        for axes in figure.axes:
            assert axes.get_position().height * figure.get_figheight() > 1.5  # inches
            box = axes.get_legend().get_window_extent()
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
            assert axes.title.get_window_extent().width <= figure.bbox.width / len(shown)


def test_a_histogram_counts_no_episode_twice():
    def test_of(agent, seeds):
        return None, {"agent": agent, "seeds": seeds}

    group = [test_of("a", [0, 1]), test_of("a", [0, 1, 2]), test_of("b", [0, 1]), (None, {"agent": "a"})]
    assert [is_part_of_another(row, group) for _, row in group] == [True, False, False, False]


def test_seeds_are_one_curve_with_a_band():
    def curve(mean):
        generations = {"generation": (1, 2), "seconds": (10.0, 20.0), "mean": mean, "min": (0, 0), "max": (9, 9)}
        return {"generations": generations, "evaluation": {"generation": (2,), "seconds": (20.0,), "mean": mean[1:]}}

    found = together([curve((1.0, 3.0)), curve((3.0, 4.0)), curve((2.0, 8.0))])
    assert [found["generations"][name] for name in ("min", "mean", "max")] == [(1.0, 3.0), (2.0, 5.0), (3.0, 8.0)]
    assert found["evaluation"]["mean"] == (5.0,)
    assert together([curve((1.0, 3.0))]) == curve((1.0, 3.0))


def test_curves_as_tidy_csv(tmp_path):
    lines = list(csv.DictReader(io.StringIO(curves_csv(read_runs([make_car(tmp_path / "car")])))))
    values = {(line["model"], line["step"], line["quantity"]): float(line["value"]) for line in lines}
    assert values["vae", "40", "r_loss"] == 70 / 40 and values["rnn", "20", "loss"] == 2 - 20 / 60
    assert values["controller", "3", "max"] == 450 and values["controller", "4", "evaluation_mean"] == 480
    assert {line["run"] for line in lines} == {"car"} and len(values) == len(lines)
