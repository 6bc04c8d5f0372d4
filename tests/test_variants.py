"""Variants of the games: only the picture changes, and in the intended way."""

from pathlib import Path

import numpy as np
import pytest

from world_models import published, results, tasks
from world_models.config import UserError
from world_models.tasks import wad
from world_models.tasks.carracing_env import CarRacing

FIELD, ROAD = (102, 204, 102), (102, 102, 102)


def drive(variant: str, seed: int = 3) -> tuple[np.ndarray, float]:
    """The picture (84, 96, 3) after 70 steps, before it is shrunk, and the sum of rewards."""
    env = CarRacing(variant=variant)
    env.reset(seed=seed)
    total = sum(env.step(np.array([0, 0.3, 0], np.float32))[1] for _ in range(70))
    return env._draw().copy(), total


@pytest.mark.parametrize("seed", [3, 5])
def test_colour_shifts_field_and_road_each_by_one_level(seed):
    (before, reward), (frame, other) = drive("plain", seed), drive("colour", seed)
    assert other == reward
    field = frame[np.all(before == FIELD, axis=-1)].astype(int) - FIELD
    road = frame[np.all(before == ROAD, axis=-1)].astype(int) - ROAD  # driven tiles, and a third of the others
    for shift in (field, road):
        assert len(shift) > 50 and 0 < abs(shift[0, 0]) <= 51
        assert np.all(shift == shift[0, 0])
    assert field[0, 0] != road[0, 0]
    others = np.any(before != FIELD, axis=-1) & (before.max(axis=-1) != before.min(axis=-1))
    assert np.array_equal(frame[others], before[others]), "squares of grass, kerbs and the car"


def test_bars_are_black_and_leave_the_middle():
    (before, reward), (frame, other) = drive("plain"), drive("bars")
    assert other == reward
    assert not frame[:, :7].any() and not frame[:, -7:].any()
    assert np.array_equal(frame[:, 7:-7], before[:, 7:-7])


def test_a_red_blob_is_to_the_right_of_the_car():
    (before, reward), (frame, other) = drive("plain"), drive("blob")
    assert other == reward
    rows, columns = np.nonzero(np.any(frame != before, axis=-1))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (75, 85, 48, 59)
    assert len(rows) == 11 * 12 and np.all(frame[48:60, 75:86] == (204, 0, 0))


@pytest.fixture(scope="module")
def games():
    """Doom's frame (480, 640, 3), its observation and the number of lumps by variant, after the same 40 steps."""
    env = pytest.importorskip("world_models.tasks.takecover_env")
    shown = {}
    for variant in tasks.get("doom").variants:
        game = env.DoomTakeCover("rgb_array", variant=variant)
        game.reset(seed=3)
        for _ in range(40):
            observation = game.step(np.zeros(1, np.float32))[0]
        shown[variant] = game.render(), observation
        game.close()
    return shown


def test_doom_changes_where_the_variant_says(games):
    frame, observation = games["plain"]
    changed = {name: np.any(game[0] != frame, axis=-1) for name, game in games.items()}
    assert changed["walls"][60:150].mean() > 0.9 and not changed["walls"][245:].any(), "the floor stays"
    assert changed["floor"][260:400].all() and not changed["floor"][:150].any(), "the floor only"
    assert changed["text"][30:74, 150:486].all() and changed["text"].sum() == 44 * 336, "the banner only"
    assert all(np.any(games[name][1] != observation) for name in ("walls", "floor", "text"))


def test_a_game_file_is_written_as_it_was_read():
    vizdoom = pytest.importorskip("vizdoom")
    data = Path(vizdoom.__file__).with_name("scenarios").joinpath("take_cover.wad").read_bytes()
    lumps = wad.read(data)
    assert [name for name, _ in lumps][:2] == ["MAP01", "TEXTMAP"]
    assert wad.write(lumps) == data


def test_a_row_of_a_variant_is_another_experiment():
    config = tasks.preset("carracing", "laptop")
    one, other = (results.identity(config, variant=name) | {"episodes": 100} for name in ("plain", "bars"))
    assert any(one[name] != other[name] for name in results.KEY)
    assert results.is_headline(config, one) and not results.is_headline(config, other)
    assert published.score(one) == (906, 21) and published.score(other) is None
    assert "bars" in results.where(other)


def test_an_unknown_variant_is_refused():
    with pytest.raises(UserError, match="--variant: expected one of plain, walls, floor, text, got 'bars'"):
        tasks.replace(tasks.preset("doom", "laptop"), variant="bars")
