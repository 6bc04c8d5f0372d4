"""The page of dreams in a real browser, without a head: Chromium, opened from a file."""

import io

import numpy as np
import pytest
from conftest import ROOT, need_program
from PIL import Image
from playwright.sync_api import sync_playwright

from tools.page import speed
from tools.page.__main__ import build

SCREENS = [(2560, 1440), (1920, 1000), (1440, 900), (1180, 820), (1280, 680), (1366, 625), (820, 1180)]
SCREENS += [(450, 844), (390, 844), (360, 640), (320, 568), (844, 390)]
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
# A dream of given draws, paused: in one call, between which and the next the page's clock may run as it likes.
BEGIN = "restart(); state.dream.draws = new Draws(1); state.dream.sampleStart(); setPlaying(false)"


@pytest.fixture(scope="module")
def chromium():
    path = need_program("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, site):
    """Opens a run's page, paused after three steps of a dream that is the same whenever it is opened, however fast the
    machine is; fails at the end if the console or the page said an error."""
    said, pages = [], []

    def opens(name: str, viewport: dict = DESK, **options):
        page = chromium.new_page(viewport=viewport, **options)
        page.set_default_timeout(120_000)
        pages.append(page)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{(site / 'index.html').as_uri()}#{name}")
        page.wait_for_function("state.run && state.dream.steps > 0")  # it plays by itself
        page.evaluate(f"{BEGIN}; for (let k = 0; k < 3; k++) advance()")
        return page

    yield opens
    for page in pages:
        page.close()
    assert said == []


def picture(page, selector: str = "#screen") -> np.ndarray:
    """What stands on the screen there, (H, W, 3)."""
    image = Image.open(io.BytesIO(page.locator(selector).screenshot()))
    return np.asarray(image.convert("RGB")).astype(int)


def steps(page) -> int:
    return int(page.text_content("#steps"))


@pytest.mark.parametrize("name", ["doom", "carracing"])
def test_dream_runs_by_itself_and_is_a_picture(opened, name):
    page = opened(name)
    before, frame = steps(page), picture(page)
    assert before == 3
    assert frame.std() > 5
    page.keyboard.press("Space")
    page.wait_for_function(f"state.dream.steps > {before + 10}")
    assert page.text_content("#pause") == "❚❚Pause"
    assert np.abs(picture(page) - frame).mean() > 0.5


def test_of_two_runs_opened_at_once_the_later_counts(opened):
    """The first is still loading; meanwhile a click on the strip of the run before does nothing."""
    page = opened("doom")
    found = page.evaluate(
        """async () => {
          const load = loadRun;
          let arrive;
          const late = new Promise((resolve) => (arrive = resolve));
          loadRun = (name) => (name === "carracing" ? late.then(() => load(name)) : load(name));
          const first = openRun("carracing");
          look(0);
          const second = openRun("doom");
          await second;
          arrive();
          await first;
          loadRun = load;
          return [state.run.name, state.dream.run.name, location.hash];
        }"""
    )
    assert found == ["doom", "doom", "#doom"]


@pytest.mark.parametrize("name", ["doom", "carracing"])
def test_the_frame_rate_is_measured_and_shown(opened, name):
    page = opened(name)
    page.evaluate(speed.ENDLESS)
    page.keyboard.press("Space")
    page.wait_for_function("state.dream.steps > 40")  # the browser compiles what is run often
    found = speed.measure(page, 5)
    assert found.processor_rate > 0 and found.rate > 0
    page.wait_for_function("Number($('rate').textContent) > 0")


def test_keys_take_over_and_move_the_player(opened):
    """From one frame, with the same draws, 30 steps to the left and 30 to the right."""
    page = opened("doom")
    frames = []
    for key in ("ArrowLeft", "ArrowRight"):
        page.keyboard.press("c")
        page.keyboard.down(key)
        page.evaluate("restart(state.arrays.z.slice(0, 64)); state.dream.draws = new Draws(1); setPlaying(false)")
        page.evaluate("for (let k = 0; k < 30; k++) advance()")
        page.keyboard.up(key)
        assert page.get_attribute("#driver-you", "aria-pressed") == "true"
        frames.append(picture(page))
        assert page.evaluate("action[0]") == (-1 if key == "ArrowLeft" else 1)
    assert np.abs(frames[0] - frames[1]).mean() > 3
    page.keyboard.press("c")
    assert page.get_attribute("#driver-c", "aria-pressed") == "true"


def test_pads_work_like_keys(opened):
    page = opened("carracing", PHONE, has_touch=True)
    page.locator("#pads .up").dispatch_event("pointerdown", {"pointerId": 1})
    page.evaluate("setPlaying(false); for (let k = 0; k < 20; k++) advance()")
    assert page.evaluate("[state.agent, Math.abs(action[0]) < 0.01, action[1] > 0.9]") == [False, True, True]
    page.locator("#pads .up").dispatch_event("pointerup", {"pointerId": 1})
    page.evaluate("for (let k = 0; k < 20; k++) advance()")
    assert page.evaluate("action[1] < 0.1")


def test_slider_and_keys_change_the_temperature_and_what_is_drawn(opened):
    page = opened("doom")
    page.fill("#temperature", "0.1")
    assert page.text_content("#tau") == "0.10"
    spread = []
    for tau in ("0.1", "2"):
        page.fill("#temperature", tau)
        page.keyboard.press(".")
        spread.append(float(page.text_content("#spread")))
    assert spread[0] < 0.7 * spread[1]
    page.locator("#temperature").blur()
    page.keyboard.press("-")
    assert page.text_content("#tau") == "1.95"


def test_step_and_restart(opened):
    """After a click on restart Space is the dream's, not the button's: it pauses."""
    page = opened("doom")
    page.keyboard.press(".")
    assert steps(page) == 4
    # What the click has done, told before the page's clock moves on.
    page.evaluate("$('restart').addEventListener('click', () => (window.told = [state.dream.steps, state.playing]))")
    page.click("#restart")
    assert page.evaluate("told") == [0, True]
    page.keyboard.press("Space")
    assert not page.evaluate("state.playing")


@pytest.mark.parametrize(("selector", "screen"), [("#runs", DESK), ("#strip", DESK), ("#tabs", PHONE)])
def test_after_a_click_on_any_button_space_is_the_dream_s(selector, screen, opened):
    page, selector = opened("doom", screen), f"{selector} button"
    page.locator(selector).first.click()
    page.wait_for_function("state.run")
    assert page.evaluate("document.activeElement === document.body")


def test_the_system_s_theme_is_kept_only_where_another_is_chosen(opened):
    page = opened("doom", color_scheme="light")
    said = "[document.documentElement.dataset.theme, localStorage.getItem('theme')]"
    assert page.evaluate(said) == ["light", None]
    page.keyboard.press("t")
    assert page.evaluate(said) == ["dark", "dark"]


def test_death_ends_the_dream_and_r_begins_another(opened):
    page = opened("doom")
    page.evaluate("state.dream.memory.headBias[0] += 50")  # M is now sure of it
    page.keyboard.press(".")
    page.wait_for_selector("#over:not([hidden])")
    assert "C died in the dream" in page.text_content("#over")
    ended = steps(page)
    page.keyboard.press(".")
    assert steps(page) == ended
    page.evaluate("state.dream.memory.headBias[0] -= 50")
    page.keyboard.press("r")
    page.wait_for_function("state.dream.steps > 0")
    assert page.is_hidden("#over")


def test_dream_ends_after_an_episodes_steps_where_m_predicts_no_end(opened):
    page = opened("carracing")
    assert page.is_hidden("#end-section") and page.is_visible("#endless")
    said = "M was trained for 750 steps in 3 rounds of the published 4,000 and loses the road after a few seconds: "
    assert page.is_visible("#short-training")
    assert page.text_content("#short-training") == said + "R starts another dream."
    page.evaluate("state.dream.steps = state.run.max_frames - 1")
    page.keyboard.press(".")
    assert "The dream is over" in page.text_content("#over")


def test_bars_of_z_move_the_picture(opened):
    page = opened("carracing")
    before = picture(page)
    box = page.locator("#sliders").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] * 0.1, steps=4)  # one fast stroke across
    page.mouse.up()
    assert page.evaluate("Math.min(...state.dream.z)") > 2
    assert np.abs(picture(page) - before).mean() > 5
    z = page.evaluate("[...state.dream.z]")
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] * 0.9)
    page.mouse.up(button="right")
    assert page.evaluate("[...state.dream.z]") == z
    page.keyboard.press("ArrowLeft")  # the dream's again, not the bars'
    assert page.get_attribute("#driver-you", "aria-pressed") == "true" and page.evaluate("[...state.dream.z]") == z


def test_real_frame_beside_its_reconstruction_and_a_dream_from_it(opened):
    page = opened("doom")
    page.click("#strip button:nth-child(2)")
    real, seen = picture(page, "#real"), picture(page, "#screen")
    assert min(real.std(), seen.std()) > 5
    own = page.text_content("#caption")
    page.locator("#sliders").focus()
    for _ in range(64):  # not every number of z changes what V draws of this frame
        for _ in range(10):
            page.keyboard.press("ArrowUp")
        if page.text_content("#caption") != own:
            break
        page.keyboard.press("ArrowRight")
    assert page.text_content("#caption") != own
    page.click("#look-own")
    assert page.text_content("#caption") == own
    z = page.evaluate("[...state.z]")
    page.evaluate("restart(state.z); setPlaying(false)")
    assert page.evaluate("[...state.dream.z]") == z and page.is_hidden("#real-figure")


def test_the_dream_is_after_a_look_at_a_real_frame_as_it_was(opened):
    page = opened("doom")
    page.click("#strip button:nth-child(2)")
    page.keyboard.press("Escape")
    assert not page.evaluate("state.playing") and steps(page) == 3
    page.evaluate("setPlaying(true)")
    page.click("#strip button:nth-child(2)")
    page.keyboard.press("Escape")
    assert page.evaluate("state.playing")
    page.evaluate("setPlaying(false); state.dream.ended = 'death'; finish()")
    page.click("#strip button:nth-child(2)")
    assert page.is_hidden("#over")
    page.keyboard.press(".")
    assert page.is_visible("#over")


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


def test_scores_stand_beside_this_dreams_steps(opened):
    page = opened("doom")
    rows = page.locator("#bars li").all_text_contents()
    assert rows[0] == f"this dream{steps(page)}"
    assert "paper, in the game1092 ± 556" in rows and "paper, in the dream918 ± 546" in rows
    assert any(row.startswith("C, in the game") for row in rows)


def overlap(one: dict, other: dict) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "width"), ("y", "height"))
    )


@pytest.mark.parametrize("name", ["doom", "carracing"])
@pytest.mark.parametrize("viewport", SCREENS)
def test_nothing_scrolls_and_nothing_is_cut(opened, viewport, name):
    page = opened(name, {"width": viewport[0], "height": viewport[1]})
    for tab in ("heat", "memory", "latent", "vision", "scores", "about"):
        page.evaluate(f"setTab('{tab}')")
        over = page.evaluate(
            """() => [document.documentElement, ...document.querySelectorAll("article, section, header, #transport")]
            .filter((box) => box.clientWidth)
            .filter((box) => box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1)
            .map((box) => box.id || box.tagName)"""
        )
        assert over == [], tab
        boxes = [box for box in (part.bounding_box() for part in page.locator("article, #stage").all()) if box]
        for k, one in enumerate(boxes):
            assert one["x"] >= 0 and one["x"] + one["width"] <= viewport[0]
            assert one["y"] >= 0 and one["y"] + one["height"] <= viewport[1]
            assert not any(overlap(one, other) for other in boxes[:k])


def test_dark_and_light_follow_the_system_and_the_key(opened):
    page = opened("doom", color_scheme="light")
    light = picture(page, "header").mean()
    page.keyboard.press("t")
    assert light > 200 and picture(page, "header").mean() < 80
