"""What the controls of the page of dreams do, in Chromium, opened from a file."""

import numpy as np
import pytest
from small_page import DESK, PHONE, both_runs, picture

from tools.page import speed


def steps(page) -> int:
    return int(page.text_content("#steps"))


def latent(page) -> list[float]:
    return page.evaluate("[...state.dream.z]")


def driver(page) -> str:
    return page.text_content("#driver button[aria-pressed=true]")


@both_runs
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
    """While the first is still loading, a click on the strip of the run before does nothing."""
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


@both_runs
def test_the_frame_rate_is_measured_and_shown(opened, name):
    page = opened(name)
    page.evaluate(speed.ENDLESS)
    page.keyboard.press("Space")
    page.wait_for_function("state.dream.steps > 40")  # the browser compiles what is run often
    assert page.evaluate(speed.COUNT, 5) > 0
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
        assert driver(page) == "You act"
        frames.append(picture(page))
        assert page.evaluate("action[0]") == (-1 if key == "ArrowLeft" else 1)
    assert np.abs(frames[0] - frames[1]).mean() > 3
    page.keyboard.press("c")
    assert driver(page) == "C acts"


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
    assert page.evaluate(said) == ["light", None] and picture(page, "header").mean() > 200
    page.keyboard.press("t")
    assert page.evaluate(said) == ["dark", "dark"] and picture(page, "header").mean() < 80


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
    said = (
        "M was trained for 750 steps in 3 rounds, the paper's M for 4,000. Its dream loses the road after a few seconds"
    )
    assert page.is_visible("#short-training")
    assert page.text_content("#short-training") == said + ": Restart begins another."
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
    z = latent(page)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] * 0.9)
    page.mouse.up(button="right")
    assert latent(page) == z
    page.keyboard.press("ArrowLeft")  # the dream's again, not the bars'
    assert driver(page) == "You act" and latent(page) == z


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
    assert latent(page) == z and page.text_content("#real-caption") == "real game"


def test_the_dream_is_after_a_look_at_a_real_frame_as_it_was(opened):
    page = opened("doom")
    for playing in ("false", "true"):
        page.evaluate(f"setPlaying({playing})")
        page.click("#strip button:nth-child(2)")
        page.keyboard.press("Escape")
        assert page.evaluate("state.playing") == (playing == "true")
    page.evaluate("setPlaying(false); state.dream.ended = 'death'; finish()")
    page.click("#strip button:nth-child(2)")
    assert page.is_hidden("#over")
    page.keyboard.press(".")
    assert page.is_visible("#over")
