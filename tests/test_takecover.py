"""Doom's TakeCover: the real game."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import vizdoom
from conftest import ROOT
from gymnasium.utils.env_checker import check_env
from test_raster import pillow

from world_models.tasks import takecover_env
from world_models.tasks.pixels import PIXELS, shrink
from world_models.tasks.takecover import RandomStrafer
from world_models.tasks.takecover_env import DoomTakeCover


def engines(process: int | None = None) -> set[int]:
    """Process numbers of a process's engines."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = stat.read_text(encoding="utf-8").split(" (", 1)
        except OSError:
            continue  # it has ended
        name, rest = rest.rsplit(") ", 1)
        if name == "vizdoom" and int(rest.split()[1]) == (process or os.getpid()):
            found.add(int(number))
    return found


def shared_memory(process: int) -> set[str]:
    """Paths of the shared memory that an engine uses."""
    lines = Path(f"/proc/{process}/maps").read_text(encoding="utf-8").splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if " /dev/shm/ViZDoom" in line}


@pytest.fixture(scope="module")
def env():
    env = DoomTakeCover()
    yield env
    env.close()


def play(env, seed: int, after=lambda step: None) -> tuple[list[bytes], int, float]:
    """(frames, steps, return) of an episode of uniform random actions."""
    frames, total = [env.reset(seed=seed)[0].tobytes()], 0.0
    rng = np.random.default_rng(seed)
    while True:
        observation, reward, terminated, truncated, _ = env.step(rng.uniform(-1, 1, 1))
        frames.append(observation.tobytes())
        total += reward
        after(len(frames))
        if terminated or truncated:
            assert terminated != truncated
            return frames, len(frames) - 1, total


def test_is_registered_and_passes_gymnasiums_checks():
    env = gym.make("env:WorldModels/DoomTakeCover-v0")
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_random_play_survives_as_long_as_published(env):
    """60 episodes of uniform actions: 205 on average, give or take 40; a reward of 1 a step."""
    episodes = [play(env, 1000 + k) for k in range(60)]
    assert all(steps == total for _, steps, total in episodes)
    assert abs(np.mean([steps for _, steps, _ in episodes]) - 205) < 40


def test_actions_have_thirds(env):
    """Right of 1/3 the player moves right, left of -1/3 left, between them not at all."""

    def place(action: float) -> float:
        env.reset(seed=3)
        for _ in range(10):
            env.step(np.float32([action]))
        return env._game.get_state().screen_buffer[200].astype(int)

    still = place(0.0)
    np.testing.assert_array_equal(place(0.33), still)
    np.testing.assert_array_equal(place(-0.33), still)
    assert not (place(0.34) == still).all() and not (place(0.34) == place(-0.34)).all()


def test_a_crashed_engine_is_replaced_and_the_episode_goes_on(env):
    whole = play(env, 5)[0]

    def crash(step: int) -> None:
        if step == 50:
            subprocess.run(["pkill", "-9", "-P", str(os.getpid()), "vizdoom"], check=True)

    with pytest.warns(RuntimeWarning, match="engine died"):
        assert play(env, 5, crash)[0] == whole


def test_an_episode_is_cut_by_the_clock(monkeypatch):
    monkeypatch.setattr(takecover_env, "TIMEOUT", 40)
    env = DoomTakeCover()
    env.reset(seed=1)
    ends = [env.step(np.float32([0]))[2:4] for _ in range(40)]
    env.close()
    assert ends == [(False, False)] * 39 + [(False, True)]


def none_stays(paths: list[Path]) -> bool:
    """Whether paths are gone, within ten seconds."""
    for _ in range(100):
        if not any(path.exists() for path in paths):
            return True
        time.sleep(0.1)
    return False


def test_an_engine_does_not_outlive_a_killed_process():
    """Nor do its shared memory and the folder where it was started."""
    code = "from world_models.tasks import takecover_env as t; import os, time\n"
    code += "e = t.DoomTakeCover(); e.reset(seed=1); print(t.scratch(os.getpid()), flush=True); time.sleep(60)"
    job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    folder = job.stdout.readline().strip()
    [number] = engines(job.pid)
    memory = [Path(path) for path in shared_memory(number)]
    left = [Path("/proc") / str(number) / "stat", Path(folder), *memory]
    assert len(memory) == 3 and all(path.exists() for path in left)
    job.kill()
    job.wait()
    assert none_stays(left)


def orphans() -> set[Path]:
    """The engines' shared memory that no process has mapped; tests that run at the same time have theirs mapped."""
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # the process has ended
            mapped += maps.read_text(errors="replace")
    return {path for path in Path("/dev/shm").glob("ViZDoom*") if path.name not in mapped}


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1])
def test_an_engine_does_not_outlive_a_process_that_is_killed_while_it_starts(delay):
    code = "from world_models.tasks import takecover_env as t; import os\n"
    code += "print(t.scratch(os.getpid()), flush=True); t.make_game()"
    before = orphans()
    job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    folder = Path(job.stdout.readline().strip())
    for _ in range(1000):  # until it has started an engine
        if engines(job.pid):
            break
        time.sleep(0.01)
    [number] = engines(job.pid)
    time.sleep(delay)
    job.kill()
    job.wait()
    assert none_stays([Path("/proc") / str(number) / "stat", folder])
    assert none_stays([*(orphans() - before)])


def test_every_seed_from_0_on_is_a_game_of_its_own(env):
    """The engine takes 32 bits; Python's integers may be larger."""
    games = [play(env, seed)[0] for seed in (7, 7 + 2**32, 2**32 - 1, 2**70)]
    assert len({tuple(game) for game in games}) == 4
    assert play(env, 7)[0] == games[0] and play(env, 7 + 2**32)[0] == games[1]
    assert not any(any(game[-1]) for game in games) and all(any(game[-2]) for game in games)  # death is dark
    with pytest.raises(gym.error.Error):
        env.reset(seed=-1)


@pytest.mark.parametrize("end", ["os._exit(1)", "os.kill(os.getpid(), 9)", "pass"])
def test_the_folder_of_closed_engines_does_not_outlive_their_process(end):
    code = "from world_models.tasks import takecover_env as t; import os\n"
    code += f"print(t.scratch(os.getpid()), flush=True)\n{end}"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    folder = Path(done.stdout.strip())
    assert folder.name.startswith("vizdoom-") and none_stays([folder])


def test_the_extraction_policy_redraws_where_repeat_divides_the_frame():
    policy = RandomStrafer(np.random.default_rng(0))
    actions = [policy.act(frame)[0] for frame in range(300)]
    changes = [frame for frame in range(1, 300) if actions[frame] != actions[frame - 1]]
    assert 65 <= len(changes) < 250  # a policy that held each action for `repeat` frames would change 60 times at most
    assert all(-1 <= action <= 1 for action in actions)


def test_the_engine_outlives_a_terminal_s_ctrl_c_but_not_its_closing():
    env = DoomTakeCover()
    before = engines()
    env.reset(seed=1)
    [engine] = engines() - before
    os.kill(engine, signal.SIGINT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one tells of an engine that had to be started again
        for _ in range(20):
            env.step(np.zeros(1, np.float32))
    assert engine in engines()
    env.close()
    assert engines() == before


@pytest.fixture(scope="module")
def colors():
    """An engine that draws 24 bits a pixel instead of palette indices."""
    load = vizdoom.DoomGame.load_config

    def with_colors(game, path):
        load(game, path)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)

    vizdoom.DoomGame.load_config = with_colors
    try:
        game = takecover_env.make_game()
    finally:
        vizdoom.DoomGame.load_config = load
    yield game
    game.close()


@pytest.mark.parametrize("seed", range(2))
def test_palette_frames_equal_24_bit_frames_in_whole_games(colors, seed):
    """Observations of both kinds of pixels, and the full frame, at every step to the death."""
    envs = {pixels: DoomTakeCover("rgb_array", pixels=pixels) for pixels in PIXELS}
    seen = {pixels: env.reset(seed=seed)[0] for pixels, env in envs.items()}
    colors.set_seed(seed)
    colors.new_episode()
    policy = RandomStrafer(np.random.default_rng(seed))
    steps = 0
    while (state := colors.get_state()) is not None:
        frame = state.screen_buffer
        for pixels, observation in seen.items():
            np.testing.assert_array_equal(observation, shrink(np.ascontiguousarray(frame[:400]), pixels, pillow))
        np.testing.assert_array_equal(envs["paper"].render(), frame)
        action = policy.act(steps)
        colors.make_action([int(action[0] > 1 / 3), int(action[0] < -1 / 3)])
        seen = {pixels: env.step(action)[0] for pixels, env in envs.items()}
        steps += 1
    assert steps > 50 and not any(observation.any() for observation in seen.values())
    for env in envs.values():
        env.close()
