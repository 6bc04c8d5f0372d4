"""Films: an agent's episode next to V's reconstruction of it and a dream of M; and a dream alone."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from controller.lanes import make_lanes
from controller.rollout import Lanes, Step, Watcher, play
from doom_rnn.dream import Randomness, Starts
from vae.model import VAE
from world_models import tasks, text
from world_models.command_line import print_result
from world_models.config import Config
from world_models.jobs import Jobs
from world_models.mpi import Alone
from world_models.pictures import Row, panels, save_sheet, to_uint8, write_film
from world_models.runs.run import Run
from world_models.stages.imagined import dreams_along
from world_models.world_model import load_vae

WIDE = 12  # frames in a row of a sheet
END = 10  # steps between the pictured frames of an episode's end
HORIZON = 1.0  # seconds for which M dreams on from a frame of an episode; later, little is left of the frame


@dataclass(frozen=True)
class Played:
    """An episode or a dream.

    Attributes:
        frames: uint8 (T, 64, 64, 3).
        scores: (T,), the return so far when each was seen.
        total: the return.
        h, c: (T, U), M's state from before it has seen each frame; None of a dream.
    """

    frames: np.ndarray
    scores: np.ndarray
    total: float
    h: np.ndarray | None = None
    c: np.ndarray | None = None

    @property
    def notes(self) -> list[str]:
        """Step and score at each frame; at the last one the return, which its own step has changed once more."""
        before = [f"step {step}   score {text.number(score)}" for step, score in enumerate(self.scores[:-1])]
        return [*before, f"step {len(self.scores) - 1}   return {text.number(self.total)}"]


@dataclass(frozen=True)
class Panel:
    """A part of a film: its title, frames uint8 (T, 64, 64, 3), and a note below each."""

    title: str
    frames: np.ndarray
    notes: list[str]


def films(run: Run, parameters: list[float], row: dict) -> list[Path]:
    """Films what a row of results.json scored: its best, its median and its worst episode, or its first dream.

    Here and below a run has the settings of the test.
    """
    config = run.config
    vae = load_vae(run) if (run / "vae.weights.h5").exists() else None
    if config.play_in == "dream":
        if vae is None:
            print_result(f"no film: {run}/vae.weights.h5, which would draw the dream, is missing")
            return []
        dreamed = dream(run, vae, parameters, row["seeds"][0])
        name = f"{tasks.get(config.task).file_name}-dream-{config.temperature:g}"
        panel = Panel(dream_title(config), dreamed.frames, dreamed.notes)
        video = write_video(run / "videos" / f"{name}.mp4", [panel], tasks.get(config.task).fps)
        return [video, strip(run, dreamed)]
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
    """Films an episode next to V's reconstruction of it and what M dreams from its frames.

    Writes DIR/videos/TASK-VIEW-NAME.mp4 and pictures/TASK-VIEW-NAME.png, the last frames over their reconstructions.
    Returns their paths.
    """
    config, frames, task = run.config, played.frames, tasks.get(run.config.task)
    shown = panels_of(run, vae, parameters, played, f"the game, {name} test episode")
    seen = shown[1].frames
    parts = ([config.view] if task.views else []) + ([config.variant] if config.variant != "plain" else [])
    name = "-".join([task.file_name, *parts, name])
    end = run / "pictures" / f"{name}.png"
    last = np.unique(np.maximum(len(frames) - 1 - END * np.arange(WIDE - 1, -1, -1), 0))
    before = tuple(f"{(step - len(frames) + 1) / task.fps:.1f}" for step in last)
    title = f"{name}: the end of an episode of {len(frames)} steps, return {played.total:.1f}"
    rows = [Row("game", frames[last]), Row("V", seen[last], before)]
    save_sheet(end, rows, title, f"seconds before the end, at {task.fps} steps a second")
    return [write_video(run / "videos" / f"{name}.mp4", shown, task.fps), end]


def panels_of(run: Run, vae: VAE, parameters: list[float], played: Played, title: str) -> list[Panel]:
    """The panels of an episode: the game under `title`, V's reconstruction, and, if the run has what dreams begin with,
    M's dreams along it."""
    parts = [played.frames[k : k + 100] for k in range(0, len(played.frames), 100)]
    z = np.concatenate([vae.encode(part)[0] for part in parts])
    seen = to_uint8(np.concatenate([vae.decode(z[k : k + 100]) for k in range(0, len(z), 100)]))
    errors = ((played.frames / 255.0 - seen / 255.0) ** 2).sum(axis=(1, 2, 3))
    panels = [
        Panel(title, played.frames, played.notes),
        Panel("V's reconstruction", seen, [f"squared error {error:.1f}" for error in errors]),
    ]
    if (run / "initial_z.npz").exists():
        fps = tasks.get(run.config.task).fps
        length = round(HORIZON * fps)
        assert played.h is not None and played.c is not None, "an episode of the game"
        dreamt, over = dreams_along(run, parameters, z, played.h, played.c, length)
        since = np.arange(len(dreamt)) % length / fps
        notes = [
            f"{s:.1f} s ahead" + ": M predicts the end" * ended for s, ended in zip(since, over.tolist(), strict=True)
        ]
        panels.append(Panel(f"M's dream, restarted every {HORIZON:g} s", dreamt, notes))
    return panels


class Camera(Watcher):
    """Keeps what the lanes show of each episode, by its number: of the game frames, the return so far and M's state, of
    a dream z and the return so far."""

    def __init__(self):
        self.jobs: dict[int, int] = {}  # by lane
        self.rows: dict[int, list] = {}
        self.totals: dict[int, float] = {}
        self.before: dict[int, float] = {}

    def start(self, lane: int, job: int) -> None:
        self.jobs[lane], self.rows[job], self.before[lane] = job, [], 0.0

    def step(self, step: Step) -> None:
        if step.frames is None:
            for lane in step.playing:
                self.rows[self.jobs[lane]].append((step.z[lane].copy(), float(step.total[lane])))
            return
        h, c = (np.asarray(value) * (1 - step.is_first) for value in (step.h, step.c))
        for lane in step.playing:
            self.rows[self.jobs[lane]].append((step.frames[lane].copy(), self.before[lane], h[lane], c[lane]))
            self.before[lane] = float(step.total[lane])

    def end(self, lane: int, job: int, total: float, steps: int) -> float:
        self.totals[job] = total
        return total


def filmed(lanes: Lanes, parameters: list[float], seeds: list[int]) -> Camera:
    """Plays episodes in the lanes of the test, and keeps what they show."""
    camera, jobs = Camera(), Jobs(Alone(), len(seeds))
    play(lanes, jobs, [np.array(parameters)] * len(seeds), seeds, [camera])
    return camera


def episodes(lanes: Lanes, parameters: list[float], seeds: list[int]) -> list[Played]:
    """Plays real episodes, in a batch of as many lanes as the test had: they are the test's, to the bit."""
    camera = filmed(lanes, parameters, seeds)
    columns = {job: map(np.stack, zip(*rows, strict=True)) for job, rows in sorted(camera.rows.items())}
    return [Played(frames, scores, camera.totals[job], h, c) for job, (frames, scores, h, c) in columns.items()]


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


def dream(run: Run, vae: VAE, parameters: list[float], seed: int) -> Played:
    """A dream at the run's temperature, driven by C, in a batch of as many lanes as the test had."""
    lanes = make_lanes(run, replace(run.config, play_in="dream"), segment=1)
    first = Randomness(seed).first(Starts(run))
    camera = filmed(lanes, parameters, [seed])
    zs, scores = (np.stack(column) for column in zip(*camera.rows[0], strict=True))
    zs, scores = np.concatenate([first[None], zs]), np.concatenate([[0.0], scores])
    frames = np.concatenate([vae.decode(zs[k : k + 100]) for k in range(0, len(zs), 100)])
    return Played(to_uint8(frames), scores, camera.totals[0])


def write_video(path: Path, shown: list[Panel], fps: int) -> Path:
    """Writes an mp4 of panels side by side, all of the same number of frames. UserError as in `write_film`."""
    titles = [panel.title for panel in shown]
    frames = zip(*[panel.frames for panel in shown], strict=True)
    notes = zip(*[panel.notes for panel in shown], strict=True)
    write_film(path, (panels(titles, *step) for step in zip(frames, notes, strict=True)), fps)
    return path
