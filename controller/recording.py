"""Recording episodes of the data-collection policy: what extract.py does."""

import time

import numpy as np

import tasks
from common import mpi, run_dir, seeds
from common.progress import bar as progress_bar
from env import make_env
from vae.data import episode_path


def record(env, config, index: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Plays episode number `index` of a run: (obs (T, 64, 64, 3), action (T, A), return).

    The return is that up to the episode's end; recording stops there if the task says so, and at `max_frames`.
    Episodes that are not longer than `min_frames` are played again with other seeds.
    """
    task = tasks.get(config.task)
    for attempt in range(1000):
        rng = seeds.generator(config.seed, "record", index, attempt)
        # Episodes have a thousand seeds each, for a thousand attempts.
        seed = seeds.episode_seeds(config.seed, "record", 1000 * index + attempt, 1)[0]
        policy = task.policies[config.policy](rng)
        observations, actions, total, over = [], [], 0.0, False
        observation, _ = env.reset(seed=seed)
        for frame in range(config.max_frames):
            action = policy.act(frame)
            observations.append(observation)
            actions.append(action)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += 0.0 if over else float(reward)
            over |= terminated or truncated
            if over and task.stops_at_end:
                break
        if len(actions) > config.min_frames:
            return np.stack(observations), np.stack(actions), total
    raise RuntimeError(f"no episode of over {config.min_frames} frames in 1000 attempts")


def extract(comm, run, config) -> None:
    """Records this rank's share of the episodes that are missing."""
    if config.max_frames <= config.min_frames:
        raise mpi.CollectiveError(
            f"--max-frames {config.max_frames}: no episode can be longer than the {config.min_frames} of --min-frames"
        )
    # Listed by one rank: another, a moment later, would leave out what the first has recorded meanwhile.
    missing = mpi.on_root(comm, lambda: [k for k in range(config.episodes) if not episode_path(run, k).exists()])
    mine = missing[comm.rank :: comm.size]
    env = make_env(config)
    frames, disk, returns, start = 0, 0, [], time.perf_counter()
    for index in progress_bar(mine, desc=f"episodes of rank 0 of {comm.size}", disable=comm.rank > 0, unit="episode"):
        obs, action, total = record(env, config, index)
        path = episode_path(run, index)
        with run_dir.atomic_write(path) as tmp, open(tmp, "wb") as file:
            np.savez_compressed(file, obs=obs, action=action)
        frames, disk = frames + len(obs), disk + path.stat().st_size
        returns.append(total)
    env.close()
    mpi.wait(comm)
    seconds = time.perf_counter() - start
    shares = comm.gather((frames, disk, returns))
    if comm.rank == 0:
        frames, disk = sum(s[0] for s in shares), sum(s[1] for s in shares)
        returns = [value for share in shares for value in share[2]]
        if not returns:
            print(f"all {config.episodes} episodes are there already")
            return
        print(
            f"{len(returns)} episodes, {frames} frames in {seconds:.0f} s: {frames / seconds:.0f} frames/s, "
            f"{disk / 1e6:.0f} MB on disk; return {np.mean(returns):.0f} ± {np.std(returns):.0f}"
        )
