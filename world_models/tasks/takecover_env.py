"""ViZDoom's TakeCover as the paper ran it: dodge fireballs for as long as you can.

ViZDoom's own configuration and Gymnasium wrapper differ from the published environment (gym-doom 60ff576 with
doom-py 0.0.15), so the game is set up by hand here.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import vizdoom
from gymnasium.utils import EzPickle
from PIL import ImageFont

from world_models import limits
from world_models.config import UserError
from world_models.tasks import wad
from world_models.tasks.actions import checked
from world_models.tasks.pixels import PIXELS, SIZE, choose, stretch, wrap_black
from world_models.tasks.resize import shrink_doom
from world_models.tasks.takecover import VARIANTS

ROWS = 400  # of the frame's 480: the status bar begins at 403
TIMEOUT = 2100  # tics, one a step: a minute
ENGINE_MEMORY = 0.93e6  # bytes of shared memory
THIRD = 1 / 3  # the action's middle third stands still (doomrnn/doomreal.py)
RIGHT, STILL, LEFT = [1, 0], [0, 0], [0, 1]
# Two variants of AttentionAgent's authors, who published their maps as game files: the height and the texture are ours.
MAPS = {
    "walls": (b"heightceiling = 104;", b"heightceiling = 208;"),
    "floor": (b'texturefloor = "CRATOP1";', b'texturefloor = "FLAT14";'),
}


def game_file(*parts: str) -> str:
    return str(Path(vizdoom.__file__).parent.joinpath(*parts))


@cache
def palette() -> np.ndarray:
    """Doom's 256 colours, uint8 (256, 3): the first palette of the game file's PLAYPAL. The others tint the screen for
    damage and pick-ups, and are not used: screen flashes are off."""
    lumps = dict(wad.read(Path(game_file("freedoom2.wad")).read_bytes()))
    return np.frombuffer(lumps["PLAYPAL"], np.uint8, 768).reshape(256, 3)


def scenario(variant: str) -> str:
    """The path of the map. That of a variant is made from ViZDoom's in the scratch folder."""
    original = game_file("scenarios", "take_cover.wad")
    if variant not in MAPS:
        return original
    lumps = [(name, data.replace(*MAPS[variant])) for name, data in wad.read(Path(original).read_bytes())]
    path = Path(scratch(os.getpid()), f"{variant}.wad")
    path.write_bytes(wad.write(lumps))
    return str(path)


@cache
def banner() -> np.ndarray:
    """The hovering text, blue on light blue, uint8 (44, 336) of palette indices. The place and the colours are those of
    AttentionAgent's authors, as far as the palette has them; the font and the size are ours."""
    mask = ImageFont.load_default_imagefont().getmask("AttentionAgent")
    letters = np.array(mask, np.uint8).reshape(mask.size[::-1]) > 0
    return np.where(letters, np.uint8(200), np.uint8(196)).repeat(4, axis=0).repeat(4, axis=1)


def observation(frame: np.ndarray, pixels: str) -> np.ndarray:
    """The observation (64, 64, 3) of a frame of palette indices uint8 (480, 640), equal to `pixels.shrink` of its
    colours."""
    shown = frame[:ROWS]
    if pixels == "paper":
        return shrink_doom(shown, palette())
    used = palette()[np.bincount(shown.ravel(), minlength=256) > 0]
    return wrap_black(shrink_doom(shown, stretch(palette(), int(used.min()), int(used.max()))))


# Kills engines that were started in a folder, and removes their shared memory and the folder. The scan is repeated,
# since an engine may be starting.
CLEAR = """
for again in 1 2 3; do
    for link in $(find /proc -maxdepth 2 -name cwd -lname "$1" 2>/dev/null); do
        engine=${link%/cwd}
        name=$(tr '\\0' '\\n' <"$engine/cmdline" | sed -n '/^+viz_instance_id$/{n;p;}')
        test -n "$name" && kill -9 "${engine#/proc/}" && rm -f /dev/shm/ViZDoom*"$name"
    done
    sleep 0.3
done
rm -rf "$1"
"""


@cache
def scratch(process: int) -> str:
    """The folder where this process starts its engines.

    A shell waits for the process's end, however it ends, and clears the folder: an engine would not notice the end, not
    even while it starts, and its shared memory would stay.
    """
    path = tempfile.mkdtemp(prefix="vizdoom-")
    wait = f"trap '' HUP INT TERM USR1; read nothing; {CLEAR}"
    unheard: dict[str, Any] = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    waiting.append(subprocess.Popen(["sh", "-c", wait, "sh", path], stdin=subprocess.PIPE, **unheard))
    return path


waiting: list[subprocess.Popen] = []  # kept, since the shell waits for the end of its standard input


def require_shared_memory() -> None:
    """UserError if shared memory has no room for one more engine of each rank, besides what MPI takes."""
    engines, ranks = len(list(limits.SHARED.glob("ViZDoom*"))), limits.local_ranks()
    needed, room = (engines + ranks) * ENGINE_MEMORY + limits.mpi_memory(ranks), limits.shared_memory()
    if needed > room:
        raise UserError(
            f"the engines of Doom need {needed / 1e6:.0f} MB of shared memory, and {limits.SHARED} has "
            f"{room / 1e6:.0f} MB; start fewer ranks, or give the container more: docker run --shm-size=1g"
        )


def make_game(variant: str = "plain") -> vizdoom.DoomGame:
    """A started engine. UserError without shared memory for it."""
    require_shared_memory()
    game = vizdoom.DoomGame()
    game.load_config(str(Path(__file__).with_name("takecover.cfg")))
    game.set_doom_game_path(game_file("freedoom2.wad"))
    game.set_doom_scenario_path(scenario(variant))
    game.set_doom_config_path(os.devnull)  # where the engine insists on saving its settings
    # A terminal's Ctrl-C reaches the engine as well; what plays decides when it ends. It inherits what is blocked.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with contextlib.chdir(scratch(os.getpid())):  # an engine makes a folder _vizdoom where it starts
            game.init()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return game


# The exceptions of a crashed engine; the library's have no common base.
CRASHES = (
    vizdoom.ViZDoomErrorException,
    vizdoom.ViZDoomUnexpectedExitException,
    vizdoom.ViZDoomIsNotRunningException,
    vizdoom.MessageQueueException,
    vizdoom.SharedMemoryException,
)


class DoomTakeCover(gym.Env, EzPickle):
    """TakeCover, seen at 64x64.

    Args:
        render_mode: None or "rgb_array" (the game's own 480x640 frame).
        pixels: "paper": rows 0-399, resized; "release": also the release's contrast stretch and wrap.
        variant: "plain", or what a test of generalisation changes in the picture: "walls" (twice as high), "floor"
            (another texture), "text" (a banner hovers over the far wall).

    Observation: uint8 (64, 64, 3); all zeros once dead. Action: float32 (1,) in -1..1; above 1/3 moves right,
    below -1/3 left. Reward: 1 a step, the last included. Terminates on death, truncates after 2,100 tics.
    An episode is decided by its seed and actions.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 35}  # noqa: RUF012 Gymnasium's own convention

    def __init__(self, render_mode: str | None = None, pixels: str = "paper", variant: str = "plain"):
        EzPickle.__init__(self, render_mode=render_mode, pixels=pixels, variant=variant)
        self.variant = choose("variant", variant, VARIANTS)
        self.render_mode = render_mode
        self.pixels = choose("pixels", pixels, PIXELS)
        self.observation_space = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._game: vizdoom.DoomGame | None = None
        self._seed = 0
        self._past: list[list[int]] = []  # the buttons of each step
        self._frame = np.zeros((480, 640), np.uint8)  # palette indices; 0 is black

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._seed = int(self.np_random.integers(1 << 31)) if seed is None else int(seed)
        self._past = []
        try:
            self._begin()
        except CRASHES as error:
            self._restart(error)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self._game is None:
            raise gym.error.ResetNeeded("an episode begins with reset(): call it before step()")
        move = float(checked(action, 1)[0])
        buttons = RIGHT if move > THIRD else LEFT if move < -THIRD else STILL
        try:
            reward = self._game.make_action(buttons)
        except CRASHES as error:
            self._restart(error)
            reward = self._game.make_action(buttons)
        self._past.append(buttons)
        terminated = self._game.is_player_dead()
        truncated = not terminated and (self._game.is_episode_finished() or len(self._past) >= TIMEOUT)
        return self._observe(), float(reward), terminated, truncated, {}

    def _begin(self) -> None:
        if self._game is None:
            self._game = make_game(self.variant)
        # Before the episode, or it does not count. The engine takes 32 bits.
        fits = self._seed < 1 << 32
        self._game.set_seed(self._seed if fits else int(np.random.SeedSequence(self._seed).generate_state(1)[0]))
        self._game.new_episode()

    def _restart(self, error: Exception) -> None:
        """A new engine in the place of a crashed one, brought to where that was."""
        warnings.warn(f"Doom's engine died ({error}); it is started again", RuntimeWarning, stacklevel=3)
        self.close()
        self._begin()
        assert self._game is not None
        for buttons in self._past:
            self._game.make_action(buttons)

    def _observe(self) -> np.ndarray:
        assert self._game is not None
        state = self._game.get_state()
        if state is None:  # the episode is over; after a time-out the last picture stays
            if self._game.is_player_dead():
                self._frame = np.zeros_like(self._frame)
                return np.zeros((SIZE, SIZE, 3), np.uint8)
        else:
            self._frame = state.screen_buffer
            if self.variant == "text":
                self._frame = self._frame.copy()
                self._frame[30:74, 150:486] = banner()
        return observation(self._frame, self.pixels)

    def render(self) -> np.ndarray | None:
        return palette()[self._frame] if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Ends the engine's process. The environment can be reset again afterwards."""
        if self._game is not None:
            self._game.close()
        self._game = None
