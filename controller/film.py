"""A film of one episode: what the agent sees beside V's reconstruction of it."""

from pathlib import Path

import imageio
import numpy as np

from config import Config
from controller.rollout import RealLanes
from doom_rnn.models import load_rnn, load_vae
from folder import whole
from pictures import to_uint8

FPS = {"carracing": 50, "doom": 35}
SCALE = 4


def film(run: Path, config: Config, parameters: list[float], seed: int) -> Path:
    """Plays one real episode, of `seed`, and writes DIR/videos/ENV-SEED.mp4; its path."""
    vae = load_vae(run, config)
    lanes = RealLanes(config, vae, load_rnn(run, config), 1)
    lanes.start(0, np.array(parameters), seed)
    frames = [lanes.frames[0].copy()]
    while not lanes.advance():
        frames.append(lanes.frames[0].copy())
    lanes.close()
    frames = np.stack(frames)
    seen = [vae.decode(vae.encode(frames[k : k + 100])[0]).numpy() for k in range(0, len(frames), 100)]
    pairs = np.concatenate([frames, to_uint8(np.concatenate(seen))], axis=2)
    path = run / "videos" / f"{config.task}-{config.view}-{seed}.mp4"
    return write_video(path, pairs, FPS[config.task])


def write_video(path: Path, frames: np.ndarray, fps: int) -> Path:
    """uint8 (N, H, W, 3) -> an mp4, SCALE times as large."""
    large = frames.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    with whole(path) as beside:
        written = beside.with_name(beside.name + ".mp4")  # the ending decides the format
        imageio.mimwrite(written, large, fps=fps, macro_block_size=8, quality=7)
        written.replace(beside)
    return path
