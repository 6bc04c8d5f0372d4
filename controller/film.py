"""Films: an agent's episode beside V's reconstruction of it and a dream of M; and a dream alone."""

from pathlib import Path

import imageio
import numpy as np

import tasks
from common.pictures import save_pairs, save_rows, to_uint8
from common.run_dir import atomic_write
from config import Config
from controller.policy import Controller
from controller.rollout import RealLanes, make_lanes
from doom_rnn.dream import DreamEnv
from world_model import load_vae

SCALE = 4
END = 10  # steps between the pictured frames of an episode's end


def films(run: Path, config: Config, parameters: list[float], row: dict) -> list[Path]:
    """Films what a row of results.json scored: its first episode and its worst, or its first dream."""
    if config.env == "dream":
        dreamed = dream(run, config, parameters, row["seeds"][0])
        name = f"{tasks.get(config.task).file_name}-dream-{config.temperature:g}"
        video = write_video(run / "videos" / f"{name}.mp4", dreamed, tasks.get(config.task).fps)
        return [video, strip(run, config, dreamed)]
    numbers = {"first": 0, "worst": int(np.argmin(row["returns"]))}
    lanes, vae = make_lanes(run, config), load_vae(run, config)
    written = []
    for name, number in numbers.items():
        seed = row["seeds"][number]
        frames, total = episode(lanes, parameters, seed)
        if total != row["returns"][number]:
            print(f"the film's {name} episode returned {total:.1f}, the test's {row['returns'][number]:.1f}")
        written += film(run, config, parameters, vae, frames, name, seed)
    lanes.close()
    return list(dict.fromkeys(written))  # both films dream, and write one strip


def film(run: Path, config: Config, parameters: list[float], vae, frames, name: str, seed: int) -> list[Path]:
    """Films an episode beside V's reconstruction of it and, where there are starting points, one of M's dreams.

    Writes DIR/videos/TASK-VIEW-NAME.mp4 (the dream is held where it ends first), pictures/TASK-VIEW-NAME.png, the
    last frames over their reconstructions, and pictures/dream-TAU.png, a strip of the dream. Returns their paths.
    """
    seen = np.concatenate([vae.decode(vae.encode(frames[k : k + 100])[0]) for k in range(0, len(frames), 100)])
    panels, written = [frames, to_uint8(seen)], []
    if (run / "initial_z.npz").exists():
        dreamed = dream(run, config, parameters, seed)
        panels.append(dreamed[np.minimum(np.arange(len(frames)), len(dreamed) - 1)])
        written.append(strip(run, config, dreamed))
    task = tasks.get(config.task)
    name = f"{task.file_name}-{config.view}-{name}" if task.views else f"{task.file_name}-{name}"
    end = run / "pictures" / f"{name}.png"
    last = np.maximum(len(frames) - 1 - END * np.arange(11, -1, -1), 0)
    save_pairs(end, frames[last], seen[last])
    video = write_video(run / "videos" / f"{name}.mp4", np.concatenate(panels, axis=2), task.fps)
    return [video, end, *written]


def episode(lanes: RealLanes, parameters: list[float], seed: int) -> tuple[np.ndarray, float]:
    """Plays one real episode, in a batch of as many lanes as the test had, of which one is in use.

    Returns its frames, uint8 (T, 64, 64, 3), and its return.
    """
    lanes.start(0, np.array(parameters), seed)
    frames = []
    ended = []
    while not ended:
        frames.append(lanes.frames[0].copy())
        ended = lanes.advance()
    return np.stack(frames), ended[0][1]


def strip(run: Path, config: Config, dreamed: np.ndarray) -> Path:
    """Writes two rows of twelve frames of a dream, from its first to its last."""
    path = run / "pictures" / f"dream-{config.temperature:g}.png"
    save_rows(path, list(dreamed[np.linspace(0, len(dreamed) - 1, 24, dtype=int)].reshape(2, 12, 64, 64, 3)))
    return path


def dream(run: Path, config: Config, parameters: list[float], seed: int, steps: int | None = None) -> np.ndarray:
    """The frames of one dream at config.temperature, uint8 (T, 64, 64, 3), driven by the controller; the first `steps`
    only, if given."""
    env = DreamEnv(run, temperature=config.temperature, render_mode="rgb_array")
    controller, params = Controller.of(config), np.array(parameters)[None]
    observation, _ = env.reset(seed=seed)
    frames = [env.render()]
    over = False
    while not over and len(frames) != steps:
        z, c, h = np.split(observation[None], [config.z_size, config.z_size + config.rnn_units], axis=1)
        observation, _, terminated, truncated, _ = env.step(controller.act(params, z, c, h)[0])
        frames.append(env.render())
        over = terminated or truncated
    return np.stack(frames)


def write_video(path: Path, frames: np.ndarray, fps: int) -> Path:
    """uint8 (N, H, W, 3) -> an mp4, SCALE times as large."""
    with atomic_write(path) as tmp:
        written = tmp.with_name(tmp.name + ".mp4")  # the ending decides the format
        with imageio.get_writer(written, fps=fps, macro_block_size=8, quality=5) as writer:
            for frame in frames:
                writer.append_data(frame.repeat(SCALE, axis=0).repeat(SCALE, axis=1))
        written.replace(tmp)
    return path
