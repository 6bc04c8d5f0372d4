"""What the page of dreams shows, on screens of many sizes."""

import itertools
import json

import numpy as np
from conftest import ROOT
from small_page import PHONE, both_runs, picture

from tools.page.__main__ import build

SCREENS = [(2560, 1440), (1920, 1000), (1440, 900), (1180, 820), (1280, 680), (1366, 625), (820, 1180)]
SCREENS += [(450, 844), (390, 844), (360, 640), (320, 568), (844, 390)]


def test_the_first_screen_explains_what_is_seen(opened, site):
    """Also on a phone; the numbers are those of the longest tests in results.json."""
    page = opened("doom", PHONE, has_touch=True)
    rows = json.loads((ROOT / "pretrained/doom/results.json").read_text())["results"]
    rows = [row for row in rows if row.get("variant", "plain") == "plain"]
    longest = {row["play_in"]: row for row in sorted(rows, key=lambda row: row["episodes"])}
    dream, real = (f"{round(longest[env]['mean']):,} steps" for env in ("dream", "real"))
    assert page.is_visible("#story") and page.text_content("#story").startswith(
        f"C learned only inside this dream, where it survives {dream}. In the real game it survives {real}. "
        "The dream is easier, because M misses fireballs"
    )
    assert page.is_visible("#lead") and page.text_content("#lead").startswith("No game is running.")
    texts = {page.text_content("#term")}
    for part in page.locator(".term").all():
        part.tap()
        texts.add(page.text_content("#term"))
    assert len(texts) == 1 + page.locator(".term").count() == 9
    assert page.evaluate("explain() ?? $('term').textContent") in texts


def test_what_was_not_measured_is_not_told(opened):
    page = opened("doom")
    for changes, said in (
        ("{ scores: [] }", ""),
        ("{ scores: state.run.scores.filter(({ where }) => where === 'real') }", ""),
        ("{ parameters: undefined }", ""),
        ("{ evolved_in_dream: false }", "C learned in the real game, not in this dream."),
    ):
        assert page.evaluate(f"story({{ ...state.run, ...{changes} }})") == said, changes


@both_runs
def test_the_real_game_is_shown_next_to_the_dream(opened, name):
    page = opened(name)
    first = picture(page, "#real")
    for _ in range(150):
        page.evaluate("state.dream.ended = null; advance()")
    assert min(first.std(), picture(page, "#real").std()) > 5
    assert np.abs(picture(page, "#real") - first).mean() > 1
    assert page.text_content("#real-caption") == "real game"
    shown = np.array(page.evaluate("[...state.arrays.frames]")).reshape(8, -1)
    assert np.abs(np.diff(shown, axis=0)).mean(axis=1).min() > 1  # frames that are far apart in time


def test_scores_stand_beside_this_dreams_steps(opened):
    page = opened("doom")
    rows = page.locator("#bars li").all_text_contents()
    assert rows[0] == f"this dream{page.text_content('#steps')}"
    assert "paper, in the game1092 ± 556" in rows and "paper, in the dream918 ± 546" in rows
    assert any(row.startswith("C, in the game") for row in rows)


def test_three_runs_of_two_tasks_are_told_apart_on_a_phone(chromium, tmp_path):
    names = ("carracing", "carracing/agents/seed-1,features-z", "doom")
    build([ROOT / "pretrained" / name for name in names], tmp_path)
    page = chromium.new_page(viewport=PHONE)
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_function("state.run", timeout=120_000)
    assert page.locator("#runs button").all_inner_texts() == ["carracing", "seed-1,features-z", "Doom"]
    wide = page.evaluate("[document.documentElement, document.querySelector('header')].map((box) => box.scrollWidth)")
    page.close()
    assert max(wide) <= PHONE["width"]


def overlap(one: dict, other: dict) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "width"), ("y", "height"))
    )


@both_runs
def test_nothing_scrolls_and_nothing_is_cut(opened, name):
    page = opened(name)
    tabs = page.evaluate("[...$('tabs').children].map((button) => button.dataset.tab)")
    for (width, height), tab in itertools.product(SCREENS, tabs):
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate(f"setTab('{tab}')")
        over = page.evaluate(
            """() => [document.documentElement, ...document.querySelectorAll("article, section, header, #transport")]
            .filter((box) => box.clientWidth)
            .filter((box) => box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1)
            .map((box) => box.id || box.tagName)"""
        )
        assert over == [], (width, height, tab)
        boxes = [box for box in (part.bounding_box() for part in page.locator("article, #stage").all()) if box]
        for k, one in enumerate(boxes):
            assert one["x"] >= 0 and one["x"] + one["width"] <= width
            assert one["y"] >= 0 and one["y"] + one["height"] <= height
            assert not any(overlap(one, other) for other in boxes[:k])
