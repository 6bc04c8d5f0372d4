"""The paper's rollout (its section 2.4): one episode of a shipped agent.

python -m examples.rollout --run pretrained/doom --seed 3 --render film.mp4
"""

from pathlib import Path

import numpy as np

from world_models import command_line, tasks
from world_models.config import UserError
from world_models.pictures import write_film
from world_models.runs.run import Run
from world_models.training import quiet_tensorflow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402

from controller.policy import Controller  # noqa: E402
from vae.model import sample  # noqa: E402
from world_models.environments import make_env  # noqa: E402
from world_models.runs.agent import read_best  # noqa: E402
from world_models.world_model import load_rnn, load_vae  # noqa: E402

FORMATS = (".mp4", ".gif")


def rollout(run: Run, seed: int, show=lambda obs: None) -> float:
    """Plays one episode and gives every frame to `show`; returns the sum of the rewards."""
    config = run.config
    env, controller = make_env(config), Controller.of(config)
    encode, forward = tf.function(load_vae(run).encode), tf.function(load_rnn(run).step)
    parameters = np.array([read_best(run, controller.num_params)["parameters"]])
    rng, (obs, _) = np.random.default_rng(seed), env.reset(seed=seed)
    h = c = np.zeros((1, config.rnn_units), np.float32)
    done, steps, cumulative_reward = False, 0, 0.0
    while not done:
        show(obs)
        mu, logvar = encode(obs[None])
        noise = rng.standard_normal(mu.shape, np.float32)
        z = mu if config.z == "mean" else sample(mu, logvar, noise)
        a = controller.act(parameters, z, c, h).astype(np.float32)
        obs, reward, terminated, truncated, _ = env.step(a[0])
        cumulative_reward += reward
        h, c = forward(z, a, np.full((1, 1), steps == 0, np.float32), (h, c))
        steps += 1
        done = terminated or truncated or steps == config.max_frames
    env.close()
    return cumulative_reward


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("pretrained/carracing"), metavar="DIR", help="the run folder")
    parser.add_argument("--seed", type=command_line.seed, default=1, help="the seed of the episode (default 1)")
    parser.add_argument("--render", type=Path, metavar="FILE", help="write a film of the frames, such as film.mp4")
    args = parser.parse_args()
    if args.render and (args.render.suffix not in FORMATS or args.render.is_dir()):
        raise UserError(f"--render {args.render}: expected a file that ends with {' or '.join(FORMATS)}")
    run, frames = Run(args.run), []
    show = (lambda obs: frames.append(obs.repeat(4, 0).repeat(4, 1))) if args.render else lambda obs: None
    command_line.print_result(f"return: {rollout(run, args.seed, show):.1f}")
    if args.render:
        write_film(args.render, frames, tasks.get(run.config.task).fps)
        command_line.print_result(f"film: {args.render}")


if __name__ == "__main__":
    command_line.command(main)
