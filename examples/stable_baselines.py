"""Train Stable-Baselines3's PPO in a run's dream, then score it in the game.

    pip install torch stable-baselines3       # neither is a requirement of this project
    python -m examples.stable_baselines --run pretrained/doom --steps 200000 --episodes 10

The dream is one compiled vector environment (doom_rnn/vector.py); `DreamVecEnv` is what Stable-Baselines3 wants to see
of it. The game is `WorldModels/Latent-v0`, with the same observations [z, c, h] and actions.
"""

import time

import gymnasium
import numpy as np

from world_models import command_line

try:
    # PPO loads torch._dynamo, which loads triton. triton and TensorFlow both contain LLVM, and the process ends with
    # "LLVM ERROR" or a segmentation fault where TensorFlow is first.
    import torch._dynamo  # noqa: F401
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecEnv, VecMonitor
except ModuleNotFoundError as error:
    raise SystemExit(f"error: {error}; install it with: pip install torch stable-baselines3") from None

ROLLOUT = 10_240  # steps of all dreams between two updates
EPOCHS, BATCHES = 4, 4  # an update's passes over them, and batches in a pass


class DreamVecEnv(VecEnv):
    """A Gymnasium vector environment that resets in the same step, as Stable-Baselines3's."""

    def __init__(self, env: gymnasium.vector.VectorEnv):
        self.env, self.render_mode = env, None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self):
        seed = self._seeds[0]
        self._reset_seeds()
        return self.env.reset(seed=seed)[0]

    def step_async(self, actions) -> None:
        self.actions = actions

    def step_wait(self):
        observations, rewards, terminated, truncated, found = self.env.step(self.actions)
        infos = [{"TimeLimit.truncated": bool(cut)} for cut in truncated]
        for lane in np.flatnonzero(terminated | truncated):
            infos[lane]["terminal_observation"] = found["final_obs"][lane]
        return observations, rewards, terminated | truncated, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, name, indices=None):
        return [getattr(self, name)] * len(list(self._get_indices(indices)))

    def set_attr(self, *args, **options):
        raise NotImplementedError("all dreams are one environment")

    env_method = set_attr

    def env_is_wrapped(self, wrapper, indices=None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def score(agent, run: str, episodes: int) -> np.ndarray:
    """Returns (episodes,) of the agent in the game, on episodes 0, 1, ..."""
    game = gymnasium.make("doom_rnn:WorldModels/Latent-v0", run=run)
    returns = np.zeros(episodes)
    for number in range(episodes):
        observation, over = game.reset(seed=number)[0], False
        while not over:
            action, _ = agent.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = game.step(action)
            returns[number] += reward
            over = terminated or truncated
    game.close()
    return returns


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", required=True, metavar="DIR", help="a run with V and M, of a task that pays in dreams")
    parser.add_argument("--steps", type=int, default=200_000, help="steps of training, in all dreams (default 200,000)")
    parser.add_argument("--envs", type=int, default=256, help="dreams at once (default 256)")
    parser.add_argument("--episodes", type=int, default=10, help="episodes in the game (default 10; 0: none)")
    args = parser.parse_args()
    options = {"num_envs": args.envs, "run": args.run, "autoreset_mode": "SameStep"}
    dreams = VecMonitor(DreamVecEnv(gymnasium.make_vec("doom_rnn:WorldModels/Dream-v0", **options)))
    n_steps = max(2, -(-min(ROLLOUT, args.steps) // args.envs))
    batch = n_steps * args.envs // BATCHES
    agent = PPO("MlpPolicy", dreams, n_steps=n_steps, batch_size=batch, n_epochs=EPOCHS, device="cpu", seed=0)
    dreams.reset()
    dreams.step(np.zeros((args.envs, *dreams.action_space.shape), np.float32))  # compiles
    started = time.monotonic()
    agent.learn(args.steps)
    seconds = time.monotonic() - started
    said = f"{agent.num_timesteps:,} steps in {args.envs} dreams of one vector in {seconds:.1f} s: "
    command_line.print_result(f"{said}{agent.num_timesteps / seconds:,.0f} a second")
    if args.episodes:
        returns = score(agent, args.run, args.episodes)
        said = f"in the game: {returns.mean():.1f} ± {returns.std():.1f} over {args.episodes} episodes"
        command_line.print_result(said)


if __name__ == "__main__":
    command_line.command(main)
