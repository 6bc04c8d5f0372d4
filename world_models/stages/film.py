"""Films: an agent's episode next to V's reconstruction of it and a dream of M; and a dream alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from controller.lanes import make_lanes
from controller.policy import Controller
from controller.rollout import Lanes, Step, Watcher, play
from doom_rnn.dream import Randomness, Starts
from doom_rnn.env import Dreams
from vae.model import VAE
from world_models import tasks, text
from world_models.command_line import print_result
from world_models.config import Config
from world_models.jobs import Jobs
from world_models.mpi import Alone
from world_models.pictures import Row, panels, save_sheet, to_uint8, write_film
from world_models.runs.run import Run
from world_models.world_model import load_vae

WIDE = 12  # frames in a row of a sheet
END = 10  # steps between the pictured frames of an episode's end
HORIZON = 1.0  # seconds for which M dreams on from a frame of an episode; later, little is left of the frame


@dataclass(frozen=True)
class Played:
    """An episode or a dream."""

    frames: np.ndarray  # uint8 (T, 64, 64, 3)
    scores: np.ndarray  # (T,), the return so far when each was seen
    total: float  # the return
    h: np.ndarray | None = None  # h and c (T, U), M's state from before it has seen each frame; None of a dream
    c: np.ndarray | None = None

    @property
    def notes(self) -> list[str]:
        """Step and score at each frame; at the last one the return, which its own step has changed once more."""
        before = [f"step {step}   score {text.number(score)}" for step, score in enumerate(self.scores[:-1])]
        return [*before, f"step {len(self.scores) - 1}   return {text.number(self.total)}"]


class Panel(NamedTuple):
    """A part of a film: its title, frames uint8 (T, 64, 64, 3), and a note below each."""

    title: str
    frames: np.ndarray
    notes: list[str]


def films(run: Run, parameters: list[float], row: dict) -> list[Path]:
    """Films what a row of results.json scored: its best, its median and its worst episode, or its first dream.

    Here and below a run has the settings of the test.
    """
    config, task = run.config, tasks.get(run.config.task)
    vae = load_vae(run) if (run / "vae.weights.h5").exists() else None
    if config.play_in == "dream":
        if vae is None:
            print_result(f"no film: {run}/vae.weights.h5, which would draw the dream, is missing")
            return []
        dreamed = dream(run, vae, parameters, row["seeds"][0])
        path = run / "videos" / f"{task.file_name}-dream-{config.temperature:g}.mp4"
        write_video(path, [Panel(dream_title(config), dreamed.frames, dreamed.notes)], task.fps)
        return [path, strip(run, dreamed)]
    assert vae is not None, "the test needed it"
    lanes, chosen = make_lanes(run), chosen_episodes(row["returns"])
    played = episodes(lanes, parameters, [row["seeds"][number] for number in chosen.values()])
    lanes.close()
    written = []
    if (run / "initial_z.npz").exists():
        written.append(strip(run, dream(run, vae, parameters, row["seeds"][0])))
    for (name, number), one in zip(chosen.items(), played, strict=True):
        if one.total != row["returns"][number]:
            print_result(f"the film's {name} episode returned {one.total:.1f}, the test's {row['returns'][number]:.1f}")
        written += film(run, vae, parameters, one, name)
    return written


def chosen_episodes(returns: list[float]) -> dict[str, int]:
    """The numbers of the best, the median and the worst episode; of few episodes not all three."""
    order = np.argsort(returns, kind="stable")
    found = {"worst": order[0], "best": order[-1], "median": order[len(order) // 2]}
    return {name: int(number) for k, (name, number) in enumerate(found.items()) if number not in [*found.values()][:k]}


def median_seed(row: dict) -> int:
    """The seed of the median episode of a row of results.json."""
    return row["seeds"][int(np.argsort(row["returns"], kind="stable")[len(row["returns"]) // 2])]


def film(run: Run, vae: VAE, parameters: list[float], played: Played, name: str) -> list[Path]:
    """Films an episode next to V's reconstruction of it and, if the run has what dreams begin with, what M dreams from
    its frames.

    Writes DIR/videos/TASK-VIEW-NAME.mp4 and pictures/TASK-VIEW-NAME.png, the last frames over their reconstructions.
    Returns their paths.
    """
    config, frames, task = run.config, played.frames, tasks.get(run.config.task)
    z = np.concatenate([vae.encode(frames[k : k + 100])[0] for k in range(0, len(frames), 100)])
    seen = decoded(vae.decode, z)
    errors = ((frames / 255.0 - seen / 255.0) ** 2).sum(axis=(1, 2, 3))
    shown = [Panel(f"the game, {name} test episode", frames, played.notes)]
    shown.append(Panel("V's reconstruction", seen, [f"squared error {error:.1f}" for error in errors]))
    if (run / "initial_z.npz").exists():
        length = round(HORIZON * task.fps)
        assert played.h is not None and played.c is not None, "an episode of the game"
        dreamt, over = dreams_along(run, parameters, z, played.h, played.c, length)
        notes = [f"{step % length / task.fps:.1f} s ahead" for step in range(len(dreamt))]
        notes = [note + ": M predicts the end" * ended for note, ended in zip(notes, over.tolist(), strict=True)]
        shown.append(Panel(f"M's dream, restarted every {HORIZON:g} s", dreamt, notes))
    parts = ([config.view] if task.views else []) + ([config.variant] if config.variant != "plain" else [])
    name = "-".join([task.file_name, *parts, name])
    video, end = run / "videos" / f"{name}.mp4", run / "pictures" / f"{name}.png"
    last = np.unique(np.maximum(len(frames) - 1 - END * np.arange(WIDE - 1, -1, -1), 0))
    before = tuple(f"{(step - len(frames) + 1) / task.fps:.1f}" for step in last)
    title = f"{name}: the end of an episode of {len(frames)} steps, return {played.total:.1f}"
    rows = [Row("game", frames[last]), Row("V", seen[last], before)]
    save_sheet(end, rows, title, f"seconds before the end, at {task.fps} steps a second")
    write_video(video, shown, task.fps)
    return [video, end]


def decoded(decode: Callable, z: np.ndarray) -> np.ndarray:
    """Frames, uint8 (T, 64, 64, 3), of z (T, Z)."""
    return to_uint8(np.concatenate([decode(z[k : k + 100]) for k in range(0, len(z), 100)]))


class Camera(Watcher):
    """Keeps what the lanes show in each step of an episode, by its number: a frame of the game or z of a dream, the
    return after the step, and of the game M's state before the step."""

    def __init__(self):
        self.jobs: dict[int, int] = {}  # by lane
        self.rows: dict[int, list] = {}
        self.totals: dict[int, float] = {}

    def start(self, lane: int, job: int) -> None:
        self.jobs[lane], self.rows[job] = job, []

    def step(self, step: Step) -> None:
        seen, state = (step.z, []) if step.frames is None else (step.frames, [step.h, step.c])
        state = [np.asarray(value) * (1 - step.is_first) for value in state]
        for lane in step.playing:
            row = (seen[lane].copy(), float(step.total[lane]), *(value[lane] for value in state))
            self.rows[self.jobs[lane]].append(row)

    def end(self, lane: int, job: int, total: float, steps: int) -> float:
        self.totals[job] = total
        return total


def filmed(lanes: Lanes, parameters: list[float], seeds: list[int]) -> list[tuple]:
    """Plays episodes in as many lanes as the test had: they are the test's, to the bit. Returns the return of each, and
    the columns of `Camera`."""
    camera, count = Camera(), len(seeds)
    play(lanes, Jobs(Alone(), count), [np.array(parameters)] * count, seeds, [camera])
    return [(camera.totals[k], *map(np.stack, zip(*camera.rows[k], strict=True))) for k in range(count)]


def episodes(lanes: Lanes, parameters: list[float], seeds: list[int]) -> list[Played]:
    """Plays real episodes."""
    found = filmed(lanes, parameters, seeds)
    return [Played(frames, np.append(0.0, scores[:-1]), total, h, c) for total, frames, scores, h, c in found]


def dream(run: Run, vae: VAE, parameters: list[float], seed: int) -> Played:
    """A dream at the run's temperature, driven by C."""
    lanes = make_lanes(run, replace(run.config, play_in="dream"), segment=1)
    first = Randomness(seed).first(Starts(run))
    [(total, zs, scores)] = filmed(lanes, parameters, [seed])
    return Played(decoded(vae.decode, np.concatenate([first[None], zs])), np.append(0.0, scores), total)


def dream_title(config: Config) -> str:
    return f"M's dream, temperature {config.temperature:g}"  # the font has no τ


def strip(run: Run, dreamed: Played) -> Path:
    """Writes two rows of twelve frames of a dream, from its first to its last."""
    config = run.config
    path, fps = run / "pictures" / f"dream-{config.temperature:g}.png", tasks.get(config.task).fps
    steps = np.linspace(0, len(dreamed.frames) - 1, 2 * WIDE, dtype=int).reshape(2, WIDE)
    rows = [Row("dream", dreamed.frames[part], tuple(f"{step / fps:.1f}" for step in part)) for part in steps]
    title = f"{dream_title(config)}: {len(dreamed.frames) - 1} steps, return {dreamed.total:.1f}"
    save_sheet(path, rows, title, f"seconds, at {fps} steps a second")
    return path


def write_video(path: Path, shown: list[Panel], fps: int) -> None:
    """Writes an mp4 of panels side by side, all of the same number of frames. UserError as in `write_film`."""
    titles, frames, notes = zip(*shown, strict=True)
    steps = zip(zip(*frames, strict=True), zip(*notes, strict=True), strict=True)
    write_film(path, (panels(titles, *step) for step in steps), fps)


def dreams_along(
    run: Run, parameters: list[float], z: np.ndarray, h: np.ndarray, c: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """What M imagines along an episode: dreams one after the other, in which C acts as it did in the episode, but on
    what M makes of it. They have no dropout, since they show what M predicts.

    Args:
        run: the run, at whose temperature is dreamt.
        parameters: C's (P,).
        z: (T, Z), V's mu of an episode's frames; h, c: (T, U), M's state from before it had seen each.
        length: steps of a dream (L); it begins at frames 0, L, 2 L ...

    Returns:
        frames, uint8 (T, 64, 64, 3), the first of each dream V's reconstruction of the episode's own, and those after a
        predicted end held; and over, bool (T,): whether M has predicted the end before.
    """
    dreams, rng = Dreams(run.path, run.config.temperature), np.random.default_rng(0)
    controller = Controller.of(run.config)
    count, starts = len(z), np.arange(0, len(z), length)
    z, h, c = (value[starts].astype(np.float32) for value in (z, h, c))
    params = np.repeat(np.array(parameters, float)[None], len(starts), axis=0)
    is_first, over = (starts == 0).astype(np.float32)[:, None], np.zeros(len(starts), bool)
    zs, overs = [z], [over]
    for _ in range(length - 1):
        action = controller.act(params, z, c, h).astype(np.float32)
        draws = rng.random(z.shape, np.float32), rng.standard_normal(z.shape, np.float32)
        after, end, _, h, c = dreams.imagine(action, z, is_first, h, c, *draws)
        z, is_first = np.where(over[:, None], z, after), np.zeros_like(is_first)
        over = over | (end[:, 0] > 0.5)
        zs.append(z)
        overs.append(over)
    rows = np.stack(zs, axis=1).reshape(-1, z.shape[1])[:count]
    return decoded(dreams.decode, rows), np.stack(overs, axis=1).reshape(-1)[:count]
