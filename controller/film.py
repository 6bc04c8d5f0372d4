"""Films of an agent: what it sees beside V's reconstruction and M's dream of the same start; and a dream alone."""

from pathlib import Path

import imageio
import numpy as np

from config import Config
from controller import policy
from controller.rollout import RealLanes
from doom_rnn.dream import DREAMS, DreamEnv
from doom_rnn.models import load_rnn, load_vae
from folder import whole
from pictures import save_pairs, save_rows, to_uint8

FPS = {"carracing": 50, "doom": 35}
SCALE = 4
END = 10  # steps between the pictured frames of an episode's end


def film(run: Path, config: Config, parameters: list[float], seed: int, name: str) -> list[Path]:
    """Films one real episode, of `seed`, and one dream, with the same controller.

    Writes DIR/videos/TASK-VIEW-NAME.mp4, of three panels: frame, reconstruction, dream (held where it ends
    first); pictures/TASK-VIEW-NAME.png, the episode's last frames over their reconstructions; and
    pictures/dream-TAU.png, a strip of the dream. Returns their paths.
    """
    vae = load_vae(run, config)
    lanes = RealLanes(config, vae, load_rnn(run, config), 1)
    lanes.start(0, np.array(parameters), seed)
    frames = [lanes.frames[0].copy()]
    while not lanes.advance():
        frames.append(lanes.frames[0].copy())
    lanes.close()
    frames = np.stack(frames)
    seen = np.concatenate([vae.decode(vae.encode(frames[k : k + 100])[0]) for k in range(0, len(frames), 100)])
    dreamed = dream(run, config, parameters, seed)
    held = np.minimum(np.arange(len(frames)), len(dreamed) - 1)
    panels = np.concatenate([frames, to_uint8(seen), dreamed[held]], axis=2)
    name = f"{config.task}-{config.view}-{name}" if config.task == "carracing" else f"{config.task}-{name}"
    video = write_video(run / "videos" / f"{name}.mp4", panels, FPS[config.task])
    end = run / "pictures" / f"{name}.png"
    last = np.maximum(np.arange(len(frames) - 12 * END, len(frames), END), 0)
    save_pairs(end, frames[last], seen[last])
    picture = run / "pictures" / f"dream-{config.temperature:g}.png"
    save_rows(picture, list(dreamed[np.linspace(0, len(dreamed) - 1, 24, dtype=int)].reshape(2, 12, 64, 64, 3)))
    return [video, end, picture]


def dream(run: Path, config: Config, parameters: list[float], seed: int) -> np.ndarray:
    """The frames of one dream at config.temperature, uint8 (T, 64, 64, 3), driven by the controller."""
    env: DreamEnv = DREAMS[config.task](run, temperature=config.temperature, render_mode="rgb_array")
    observation, _ = env.reset(seed=seed)
    frames = [env.render()]
    over = False
    while not over:
        z, c, h = np.split(observation[None], [config.z_size, config.z_size + config.rnn_units], axis=1)
        x = policy.observe(z, c, h, config.features)
        params = np.array(parameters)[None]
        action = policy.act(params, x, config.task, config.features, config.z_size, config.rnn_units)[0]
        observation, _, terminated, truncated, _ = env.step(action)
        frames.append(env.render())
        over = terminated or truncated
    return np.stack(frames)


def write_video(path: Path, frames: np.ndarray, fps: int) -> Path:
    """uint8 (N, H, W, 3) -> an mp4, SCALE times as large."""
    large = frames.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    with whole(path) as beside:
        written = beside.with_name(beside.name + ".mp4")  # the ending decides the format
        imageio.mimwrite(written, large, fps=fps, macro_block_size=8, quality=7)
        written.replace(beside)
    return path
