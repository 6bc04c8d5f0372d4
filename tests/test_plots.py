"""The report's figures: curves of training, histograms of tests, scores against episodes; seeds together."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from small_report import make_car, make_run, result

from tools.report import curves_csv
from tools.reporting import names, pages, plots
from tools.reporting.runs import read_run, read_runs, searches
from tools.reporting.tables import scores_by_episodes
from world_models import pictures, published, tasks
from world_models.runs import files


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures that are drawn, which are not written."""
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure))
    return drawn


def test_pictures_are_written_as_png_and_pdf_and_are_not_blank(car):
    page = (car / "report" / "report.md").read_text(encoding="utf-8")
    found = {path.name for path in (car / "report").glob("*.png")}
    assert found == {"training-carracing.png", "returns-carracing.png", "losses-car.png"}
    for name in found:
        assert f"({name})" in page
        assert np.asarray(Image.open(car / "report" / name).convert("L"), float).std() > 10
        assert (car / "report" / name).with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_the_end_of_the_published_curve_is_in_the_picture(tmp_path, figures):
    run = read_run(make_car(tmp_path / "car"), "car")
    pages.training_curves([run], tmp_path / "x.png")
    curve = published.curve("carracing")["generations"]
    for axes, last in zip(figures[0].axes, (curve["generation"][-1], curve["seconds"][-1] / 3600), strict=True):
        assert axes.get_xlim()[0] < 4 < last < axes.get_xlim()[1]
        assert axes.get_ylim()[0] < min(curve["mean"]) and max(curve["mean"]) < axes.get_ylim()[1]


def test_legends_are_words_and_name_run_round_and_seed(tmp_path, figures):
    paths = []
    for tau in (0.1, 0.5, 1.0, 1.15, 1.3):
        for seed in (0, 1):
            config = dataclasses.replace(tasks.preset("doom", "laptop"), temperature=tau, seed=seed)
            paths.append(make_run(tmp_path / f"{tau}-{seed}", config, [result(config, [100.0 * tau, 200.0])]))
    runs = read_runs(paths)
    assert [len(group) for group in searches(runs)] == [2] * 5
    assert names.search(searches(runs)[0]) == "0.1-0, round 1, seeds 0, 1: C sees z, c and h, dream at τ 0.1"
    pages.training_curves(runs, tmp_path / "x.png")
    pages.histograms(runs, tmp_path / "x.png")
    (legend,) = figures[0].legends
    said = [handle.get_text() for handle in legend.get_texts()]
    assert len(said) == 1 + 5 + 3 and said[0] == "published (in dreams)" and not any("_" in words for words in said)
    assert len({(line.get_linestyle(), line.get_marker()) for line in legend.get_lines()[1:6]}) == 5
    titles = [axes.get_title() for axes in figures[1].axes[:5]]
    assert titles[0].replace("\n", " ") == "ViZDoom, trained at τ 0.1, C sees z, c and h, round 1"


def test_losses_of_seeds_are_one_curve_with_a_band(tmp_path, figures):
    runs = []
    for seed in range(3):
        run = make_car(tmp_path / f"s{seed}", seed=seed)
        content = (run / "metrics.jsonl").read_text(encoding="utf-8")
        files.write_text(run / "metrics.jsonl", content.replace('"vae_loss": 4.5', f'"vae_loss": {4.5 + seed}'))
        runs.append(run)
    blocks = pages.models(read_runs(runs), tmp_path / "out")
    (line, *_), (band, *_) = figures[0].axes[0].lines, figures[0].axes[0].collections
    assert line.get_ydata()[0] == 5.5 and (band.get_paths()[0].vertices[:, 1].min(), len(figures[0].axes)) == (2.25, 2)
    caption = "Learning curves of V and M: the mean of 3 runs in a band from the lowest to the highest."
    assert blocks[1].caption == caption
    assert blocks[0].text.endswith("; pictures of s0") and len(figures) == 1


def test_the_histograms_legends_are_inside_the_picture(tmp_path, figures):
    returns = {f"a-folder-with-a-{'rather-' * k}long-name, seed {k}, 100 episodes": [700.0, 800.0] for k in range(15)}
    title = "CarRacing, view v0, at most 1000 steps, z = mean, release pixels, bfloat16, C sees z, c and h, round 12"
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


def test_a_histogram_counts_no_episode_twice(tmp_path, figures):
    config = tasks.preset("carracing", "smoke")
    rows = [result(config, [1.0, 2.0]), result(config, [1.0, 2.0, 3.0])]
    pages.histograms([read_run(make_run(tmp_path / "car", config, rows), "car")], tmp_path / "x.png")
    assert sum(bar.get_height() for bar in figures[0].axes[0].patches[1:]) == 3  # the first is the published band


def test_scores_against_episodes_of_a_shipped_run(tmp_path):
    run = read_run(ROOT / "pretrained/carracing", "carracing")
    ((label, points),) = scores_by_episodes([run], "carracing")
    assert label.startswith("ours by round")
    assert [point[0] for point in points] == [19392, 40560, 60528, 66288, 73968]
    assert [round(point[1]) for point in points] == [790, 830, 874, 893, 895]
    assert points[2][2] == pytest.approx(1.96 * 66.7 / 1000**0.5, rel=0.01)
    theirs = dict(published.by_episodes("carracing"))
    assert theirs["World Models, release"][-1] == (1800 * 64 * 16, 900.46) and len(theirs) == 3
    assert not published.by_episodes("doom")  # its agents are evolved in dreams
    for path in plots.by_episodes(tmp_path / "scores.png", "carracing", [(label, points)]):
        assert path.stat().st_size > 10_000


def test_seeds_are_one_curve_with_a_band():
    def curve(mean):
        generations = {"generation": (1, 2), "seconds": (10.0, 20.0), "mean": mean, "min": (0, 0), "max": (9, 9)}
        return {"generations": generations, "evaluation": {"generation": (2,), "seconds": (20.0,), "mean": mean[1:]}}

    found = plots.together([curve((1.0, 3.0)), curve((3.0, 4.0)), curve((2.0, 8.0))])
    assert [list(found["generations"][name]) for name in ("min", "mean", "max")] == [[1, 3], [2, 5], [3, 8]]
    assert list(found["evaluation"]["mean"]) == [5] and list(found["evaluation"]["seconds"]) == [20]
    assert plots.together([curve((1.0, 3.0))]) == curve((1.0, 3.0))


def test_curves_as_tidy_csv(tmp_path):
    lines = list(csv.DictReader(io.StringIO(curves_csv(read_runs([make_car(tmp_path / "car")])))))
    values = {(line["model"], line["step"], line["quantity"]): float(line["value"]) for line in lines}
    assert values["vae", "40", "r_loss"] == 70 / 40 and values["rnn", "20", "loss"] == 2 - 20 / 60
    assert values["controller", "3", "max"] == 450 and values["controller", "4", "evaluation_mean"] == 480
    assert {line["run"] for line in lines} == {"car"} and len(values) == len(lines)


@pytest.mark.parametrize("text", ["M's dream, restarted every 1 s", "0.8 s ahead: M predicts the end", "x" * 40])
def test_text_in_a_film_fits_its_panel(text):
    assert pictures.fitted(text, 64 * pictures.PANEL, 11 + pictures.PANEL).getlength(text) <= 64 * pictures.PANEL


def test_a_white_frame_of_a_film_has_an_edge():
    film = pictures.panels([""], [np.full((64, 64, 3), 255, np.uint8)], [""], scale=2)
    edge = np.argwhere((film == pictures.FRAME).all(axis=-1))
    assert [*edge.min(axis=0), *edge.max(axis=0)] == [23, 7, 152, 136]  # around the 128 x 128 pixels from (24, 8) on
