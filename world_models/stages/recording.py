"""Recorded episodes: what extract.py does. Random ones at first; in later rounds the last round's agent plays all, or
a share of them."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from controller.episode import Episode, total_reward
from controller.jobs import Jobs
from vae.data import episode_path, origin, read_outcome, read_source, shape_of
from world_models import mpi, seeds, tasks
from world_models.command_line import say
from world_models.config import UserError
from world_models.environments import make_env
from world_models.progress import bar as progress_bar
from world_models.runs import integrity, run_dir, storage
from world_models.runs.arrays import UNREADABLE, require_finite
from world_models.stages.explorers import Explorers
from world_models.training import quiet_tensorflow

ATTEMPTS = 1000  # at an episode that is long enough; so many seeds belong to its number


def record(env, config, index: int, after_step: Callable[[], None] = lambda: None) -> dict[str, np.ndarray]:
    """Plays random episode number `index` of a run; calls `after_step` after every step.

    The return is that up to the episode's end; recording stops there if the task says so, and at `max_frames`.
    Episodes that are not longer than `min_frames` are played again with other seeds; UserError if all are.

    Returns:
        obs uint8 (T, 64, 64, 3), action float32 (T, A), reward float32 (T,), what each action earned, and end (),
        the number of frames after which the episode was over, T + 1 if it never was. With `vae_weight` also mask,
        uint8 (T, 64, 64), which pixels matter.
    """
    task, masked = tasks.get(config.task), config.vae_weight != 1
    for attempt in range(ATTEMPTS):
        rng = seeds.generator(config.seed, "record", index, attempt)
        seed = seeds.episode_seeds(config.seed, "record", ATTEMPTS * index + attempt, 1)[0]
        policy = task.policies[config.policy](rng)
        episode = Episode()
        observation, _ = env.reset(seed=seed)
        for frame in range(config.max_frames):
            action = policy.act(frame)
            before, mask = observation, env.mask if masked else None
            observation, reward, terminated, truncated, _ = env.step(action)
            episode.add(before, action, reward, terminated, truncated, mask)
            after_step()
            if episode.over and task.stops_at_end:
                break
        if len(episode.actions) > config.min_frames:
            return episode.arrays()
    raise UserError(
        f"--min-frames {config.min_frames}: episode {index} ended before in each of {ATTEMPTS} attempts; choose fewer"
    )


def write(path: Path, episode: dict[str, np.ndarray], source: dict) -> int:
    """Writes an episode and, as JSON, where it came from; its size in bytes. UserError if a number is not finite."""
    require_finite(path, {name: episode[name] for name in ("action", "reward")})
    with storage.atomic_write(path) as tmp, open(tmp, "wb") as file:
        np.savez_compressed(file, **episode, source=np.array(json.dumps(source)))
    return path.stat().st_size


def extract(comm, run: Path, config) -> None:
    """Records this rank's share of the episodes that are missing."""
    if (config.round == 1 or config.random) and config.max_frames <= config.min_frames:
        raise mpi.CollectiveError(
            f"--max-frames {config.max_frames}: no episode can be longer than the {config.min_frames} of --min-frames"
        )
    # Listed by one rank: another, a moment later, would leave out what the first has recorded meanwhile.
    missing = mpi.on_root(comm, missing_episodes, run, config)
    start = time.perf_counter()
    saved = f"the finished episodes are in {run}/record"
    first = extract_random(comm, run, config, [index for index in missing if is_random(config, index)])
    mpi.stop_together(comm, saved)
    then = extract_by_agent(comm, run, config, [index for index in missing if not is_random(config, index)])
    frames, disk, returns = (a + b for a, b in zip(first, then, strict=True))
    mpi.stop_together(comm, saved)
    seconds = time.perf_counter() - start
    shares = comm.gather((frames, disk, returns))
    if comm.rank == 0:
        frames, disk = sum(s[0] for s in shares), sum(s[1] for s in shares)
        returns = [value for share in shares for value in share[2]]
        if not returns:
            say(f"all {config.episodes} episodes are there already")
            return
        say(
            f"{len(returns)} episodes, {frames} frames in {seconds:.0f} s: {frames / seconds:.0f} frames/s, "
            f"{disk / 1e6:.0f} MB on disk; return {np.mean(returns):.0f} ± {np.std(returns):.0f}"
        )
        if config.round > 1:
            for line in by_source(run, missing):
                say(line)


def by_source(run: Path, recorded: list[int]) -> list[str]:
    """A line for each kind of player of recorded episodes: how many it has played, and their returns."""
    players = {}
    for index in recorded:
        source = read_source(path := episode_path(run, index))
        names = {"controller": "the agent", "curious": "the curious agent"}
        who = names.get(source["policy"], "the random policy") + ", with noise" * (source.get("action_noise", 0) > 0)
        reward, end = read_outcome(path, shape_of(path, "obs")[0], 0, False)
        players.setdefault(who, []).append(reward[:end].sum(dtype=np.float64))
    return [f"  {who}: {len(found)}, {np.mean(found):.0f} ± {np.std(found):.0f}" for who, found in players.items()]


def missing_episodes(run: Path, config) -> list[int]:
    """Numbers of the run's own episodes that are not recorded yet; UserError if one of another run's is missing."""
    for index in range(config.linked):
        if not (path := episode_path(run, index)).exists():
            raise UserError(f"{path} leads to an episode of an earlier round that is no longer there")
    own = range(config.linked, config.total_episodes)
    missing = [k for k in own if not episode_path(run, k).exists()]
    record = run / "record"
    if missing and record.is_symlink():
        raise UserError(
            f"{record} leads to {record.resolve()}, of another run, which lacks {len(missing)} episodes: record them "
            f"there, with: python extract.py --run {record.resolve().parent}"
        )
    return missing


def is_random(config, index: int) -> bool:
    """Whether the random policy plays episode number `index`: all of the first round, of later ones a share,
    evenly spread."""
    own = index - config.linked
    return config.round == 1 or int((own + 1) * config.random) > int(own * config.random)


def extract_random(comm, run: Path, config, missing: list[int]) -> tuple[int, int, list[float]]:
    """Frames, bytes and returns of the random episodes that this rank has recorded."""
    if not missing:
        return 0, 0, []
    mine = missing[comm.rank :: comm.size]
    env = make_env(config)
    frames, disk, returns = 0, 0, []
    bar = progress_bar(mine, desc=f"episodes of rank 0 of {comm.size}", disable=comm.rank > 0, unit="episode")
    with mpi.hang_limit(comm) as within_limit:
        for index in bar:
            if mpi.stopping(comm):
                break
            episode = record(env, config, index, within_limit)
            source = origin(config, index) | {"round": config.round, "policy": config.policy}
            disk += write(episode_path(run, index), episode, source)
            frames += len(episode["obs"])
            returns.append(total_reward(episode))
            if len(returns) == 1 and comm.rank == 0:
                storage.require_room(episode_path(run, index), disk, times=len(missing) - 1)
    env.close()
    return frames, disk, returns


def extract_by_agent(comm, run: Path, config, missing: list[int]) -> tuple[int, int, list[float]]:
    """The same of the episodes that the last round's agent has played on this rank, with that round's V and M."""
    if not missing:
        return 0, 0, []
    before = run / run_dir.BEFORE
    explorers = mpi.on_all_ranks(comm, Explorers, before, config)
    agents = mpi.on_all_ranks(comm, lambda: [explorers.agent(index) for index in missing])
    # Seeds as random episodes have them: the first of those that belong to this number.
    plan = [seeds.episode_seeds(config.seed, "record", ATTEMPTS * index, 1)[0] for index in missing]
    paths = [episode_path(run, index) for index in missing]
    return play_and_write(comm, before, config, agents, plan, paths)


def held_out_paths(run: Path, count: int) -> list[Path]:
    return [run / "held_out" / f"{index:06d}.npz" for index in range(count)]


def extract_held_out(comm, run: Path, config, count: int) -> None:
    """Records `count` episodes of the run's own agent in DIR/held_out, which no V or M learns from; anew where they are
    of an agent that it had before."""
    paths = held_out_paths(run, count)
    agent = mpi.on_all_ranks(comm, Explorers, run, config).kept()
    agent.source |= {"held_out": True}
    missing = mpi.on_root(comm, lambda: [k for k, path in enumerate(paths) if not is_of(path, agent.source["agent"])])
    if missing:
        # Behind the seeds of all that a run may record.
        plan = [seeds.episode_seeds(config.seed, "record", seeds.RANGE // 2 + index, 1)[0] for index in missing]
        play_and_write(comm, run, config, [agent] * len(missing), plan, [paths[index] for index in missing])
    mpi.stop_together(comm, f"the finished episodes are in {run}/held_out")


def is_of(path: Path, agent: str) -> bool:
    """Whether an episode is there, and not of another agent than that of this digest. Damage is reported by who reads
    it."""
    try:
        return path.exists() and read_source(path).get("agent", agent) == agent
    except UNREADABLE:
        return True


def play_and_write(comm, models: Path, config, agents: list, plan: list[int], paths: list[Path]):
    """Episode k is played by agents[k] with the seed plan[k], with the V and M in the folder `models`, and written to
    paths[k]. Returns this rank's frames, bytes and returns."""
    own = mpi.on_root(comm, run_dir.load, models)
    acting = dataclasses.replace(config, heads=own.heads, features=own.features)  # a new round may have others
    quiet_tensorflow()
    from controller.recording_lanes import make_lanes
    from controller.rollout import play

    lanes = mpi.on_all_ranks(comm, make_lanes, models, acting)
    made_from = mpi.on_root(comm, integrity.digests, models, "vae", "rnn")
    lanes.noises = {seed: agent.noise for seed, agent in zip(plan, agents, strict=True)}
    jobs = Jobs(comm, len(plan))
    frames, disk, returns = 0, 0, []
    bar = progress_bar(total=len(plan), desc="the agent's episodes", disable=comm.rank > 0, unit="episode")

    def keep(job: int, lane: int) -> None:
        nonlocal frames, disk
        episode = lanes.episodes[lane].arrays()
        disk += write(paths[job], episode, origin(config, int(paths[job].stem)) | agents[job].source | made_from)
        frames += len(episode["obs"])
        returns.append(total_reward(episode))
        if len(returns) == 1 and comm.rank == 0:
            storage.require_room(paths[job], disk, times=len(plan) - 1)
        bar.update(min(comm.size, bar.total - bar.n))

    play(lanes, jobs, [agent.parameters for agent in agents], plan, keep)
    jobs.close()
    bar.close()
    lanes.close()
    return frames, disk, returns
