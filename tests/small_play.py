"""Play for tests: a communicator of one rank, without MPI, and an episode of one agent in an environment of its own."""

import numpy as np

from controller.policy import Controller


def play_alone(env, config, params: np.ndarray, seed: int) -> tuple[list[float], np.ndarray]:
    """(rewards, observations) of one episode of a linear controller in an environment that shows it [z, c, h]."""
    observation, _ = env.reset(seed=seed)
    rewards, seen, over = [], [observation], False
    while not over:
        z, c, h = np.split(observation[None], [config.z_size, config.z_size + config.rnn_units], axis=1)
        action = Controller.of(config).act(params[None], z, c, h)
        observation, reward, terminated, truncated, _ = env.step(action[0])
        rewards.append(reward)
        seen.append(observation)
        over = terminated or truncated
    return rewards, np.stack(seen)
