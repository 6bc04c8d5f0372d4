"""The paper's rollout (its section 2.4), one episode of a shipped agent:
python -m examples.rollout --run pretrained/doom --seed 3 --render film.mp4"""

from pathlib import Path

import imageio
import numpy as np

from world_models import command_line, tasks
from world_models.runs import run_dir
from world_models.training import quiet_tensorflow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402

from controller.policy import Controller  # noqa: E402
from vae.model import sample  # noqa: E402
from world_models.environments import make_env  # noqa: E402
from world_models.runs.agent_file import read_best  # noqa: E402
from world_models.world_model import load_rnn, load_vae  # noqa: E402


def rollout(run: Path, seed: int, show=lambda obs: None) -> float:
    """Plays one episode, giving every frame to `show`; returns the sum of its rewards."""
    config = run_dir.load(run)
    env, controller = make_env(config), Controller.of(config)
    encode, forward = tf.function(load_vae(run, config).encode), tf.function(load_rnn(run, config).step)
    parameters = np.array([read_best(run / "controller", controller.num_params)["parameters"]])
    rng, (obs, _) = np.random.default_rng(seed), env.reset(seed=seed)
    h = c = np.zeros((1, config.rnn_units), np.float32)
    done, steps, cumulative_reward = False, 0, 0.0
    while not done:
        show(obs)
        noise, is_first = rng.standard_normal((1, config.z_size), np.float32), np.full((1, 1), steps == 0, np.float32)
        z = sample(*encode(obs[None]), noise)
        a = controller.act(parameters, z, c, h).astype(np.float32)
        obs, reward, terminated, truncated, _ = env.step(a[0])
        cumulative_reward += reward
        h, c = forward(z, a, is_first, h, c)
        steps += 1
        done = terminated or truncated or steps == config.max_frames
    env.close()
    return cumulative_reward


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("pretrained/carracing"), metavar="DIR", help="the run folder")
    parser.add_argument("--seed", type=int, default=0, help="decides the episode (default 0)")
    parser.add_argument("--render", metavar="FILE", help="write a film of what the agent sees, such as film.mp4")
    args, frames = parser.parse_args(), []
    show = (lambda obs: frames.append(obs.repeat(4, 0).repeat(4, 1))) if args.render else lambda obs: None
    print(f"return: {rollout(args.run, args.seed, show):.1f}")
    if args.render:
        imageio.mimwrite(args.render, frames, fps=tasks.get(run_dir.load(args.run).task).fps)


if __name__ == "__main__":
    command_line.command(main)
