"""Recorded episodes: what extract.py does. The random policy plays the first round; in later rounds the last round's
agent plays all episodes, or a share of them."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from controller.rollout import Step, Watcher, play
from controller.watchers import Bar
from rnn.batches import batches_of
from rnn.data import LatentDataset
from vae.data import Frames
from world_models import mpi, seeds, tasks
from world_models.command_line import print_result
from world_models.config import Config, UserError
from world_models.environments import make_env
from world_models.jobs import Jobs
from world_models.progress import bar as progress_bar
from world_models.runs import episodes, files
from world_models.runs.artifacts import EPISODE, SEARCHES, M, V
from world_models.runs.manifest import episode_digest
from world_models.runs.run import Run
from world_models.stages.explorers import Explorer, Explorers
from world_models.training import quiet_tensorflow

PLAYERS = {SEARCHES["return"]: "the agent", SEARCHES["surprise"]: "the curious agent"}
ATTEMPTS = 1000  # at an episode that is long enough; so many seeds belong to its number


class Episode:
    """An episode as it is played."""

    def __init__(self):
        self.rows: list[tuple] = []  # frame, action and reward of each step
        self.end: int | None = None
        self.over = False

    def add(self, frame, action, reward, terminated, truncated) -> None:
        """One step: the frame that was seen, what was done, and what came of it. One that is truncated is over, but has
        no end that M could learn."""
        self.rows.append((frame, action, reward))
        if terminated and not self.over:
            self.end = len(self.rows)
        self.over |= terminated or truncated

    def arrays(self) -> dict[str, np.ndarray]:
        obs, action, reward = zip(*self.rows, strict=True)
        arrays = {"obs": np.stack(obs), "action": np.stack(action).astype(np.float32)}
        return arrays | {"reward": np.array(reward, np.float32), "end": np.array(self.end or len(obs) + 1)}


class Writer:
    """Writes the episodes that this rank plays, of those that are planned for all ranks."""

    def __init__(self, comm: mpi.Comm, config: Config, planned: int):
        self.rank, self.config, self.planned = comm.rank, config, planned
        self.written: list[tuple[str, int, int, float]] = []  # who played it, frames, bytes, return

    def write(self, path: Path, episode: dict[str, np.ndarray], source: dict) -> None:
        size = episodes.write(path, episode, episodes.source_of(self.config, int(path.stem)) | source)
        if not self.written and self.rank == 0:
            files.require_room(path, size, times=self.planned - 1)
        who = PLAYERS.get(source["policy"], "the random policy") + ", with noise" * (source.get("action_noise", 0) > 0)
        total = episode["reward"][: int(episode["end"])].sum(dtype=np.float64)  # what was earned until it was over
        self.written.append((who, len(episode["obs"]), size, float(total)))


def record(env: Any, config: Config, index: int, after_step: Callable = lambda: None) -> tuple[dict, int]:
    """Plays random episode number `index` of a run; calls `after_step` after every step.

    The return is that up to the episode's end; recording stops there if the task says so, and at `max_frames`.
    Episodes that are not longer than `min_frames` are played again with other seeds; UserError if all are.

    Returns:
        obs uint8 (T, 64, 64, 3), action float32 (T, A), reward float32 (T,), what each action earned, and end (),
        the number of frames after which the episode was over, T + 1 if it never was. And the seed of the
        environment's reset.
    """
    task = tasks.get(config.task)
    for attempt in range(ATTEMPTS):
        rng = seeds.generator(config.seed, "record", index, attempt)
        seed = seeds.episode_seeds(config.seed, "record", ATTEMPTS * index + attempt, 1)[0]
        policy = task.policies[config.policy](rng)
        episode = Episode()
        observation, _ = env.reset(seed=seed)
        for frame in range(config.max_frames):
            action = policy.act(frame)
            before = observation
            observation, reward, terminated, truncated, _ = env.step(action)
            episode.add(before, action, reward, terminated, truncated)
            after_step()
            if episode.over and task.stops_at_end:
                break
        if len(episode.rows) > config.min_frames:
            return episode.arrays(), seed
    ended = f"episode {index} ended before in each of {ATTEMPTS} attempts"
    raise UserError(f"--min-frames {config.min_frames}: {ended}; choose fewer")


def extract(comm: mpi.Comm, run: Run) -> None:
    """Records the episodes that are missing; each rank plays a share."""
    config = run.config
    if (config.round == 1 or config.random_share) and config.max_frames <= config.min_frames:
        least = f"no episode can be longer than the {config.min_frames} of --min-frames"
        raise mpi.CollectiveError(f"--max-frames {config.max_frames}: {least}")
    # One rank lists them: another one, a moment later, would leave out what the first has recorded by then.
    missing = mpi.on_root(comm, episodes.missing, run)
    by_policy = [index for index in missing if is_random(config, index)]
    writer, start = Writer(comm, config, len(missing)), time.perf_counter()
    if by_policy:
        extract_random(comm, run, by_policy, writer)
    if by_agent := [index for index in missing if not is_random(config, index)]:
        extract_by_agent(comm, run, by_agent, writer)
    seconds = time.perf_counter() - start
    mpi.wait(comm)
    shares = comm.gather(writer.written)
    mpi.on_root(comm, finish, run)
    if comm.rank == 0:
        print_result(report([episode for share in shares for episode in share], seconds, config))


def report(written: list[tuple[str, int, int, float]], seconds: float, config: Config) -> str:
    """What was recorded, as text; in a later round also who has played it."""
    if not written:
        return f"all {config.episodes} episodes are recorded"
    players, frames, disk, returns = (np.array(column) for column in zip(*written, strict=True))
    text = f"{len(written)} episodes, {frames.sum()} frames in {seconds:.0f} s: {frames.sum() / seconds:.0f} frames/s, "
    text += f"{disk.sum() / 1e6:.0f} MB on disk; return {returns.mean():.0f} ± {returns.std():.0f}"
    for who in dict.fromkeys(players) if config.round > 1 else ():
        own = returns[players == who]
        text += f"\n  {who}: {len(own)}, {own.mean():.0f} ± {own.std():.0f}"
    return text


def finish(run: Run) -> None:
    """Adds the row of the complete recordings to the manifest. UserError unless they fill a batch of V and of M: both
    stages would say so hours later."""
    config, paths = run.config, [episodes.path_of(run, index) for index in range(run.config.total_episodes)]
    if not run.is_current("record"):
        run.record_episodes({path.name: episode_digest(path) for path in paths})
    if config.models_stay:
        return
    lengths = np.repeat([episodes.length_of(path) for path in paths], 2 if config.mirror == "yes" else 1)
    unread: Any = None  # only the lengths decide
    try:
        if "vae" not in config.untrained:
            Frames(paths, config.vae_batch, config.seed, config.linked_episodes, config.new_share)
        if "rnn" not in config.untrained:
            batches_of(LatentDataset(unread, unread, unread, unread, unread, lengths), config)
    except UserError as error:
        remedy = "begin another run with more --episodes, or one on these recordings, with smaller batches"
        raise UserError(f"{error}; {remedy}: --run NEW --from {run}") from None


def is_random(config: Config, index: int) -> bool:
    """Whether the random policy plays episode number `index`: all of the first round, of later ones an evenly spread
    share."""
    own = index - config.linked_episodes
    return config.round == 1 or int((own + 1) * config.random_share) > int(own * config.random_share)


def extract_random(comm: mpi.Comm, run: Run, missing: list[int], writer: Writer) -> None:
    """Records this rank's share of random episodes."""
    mine, config = missing[comm.rank :: comm.size], run.config
    env = make_env(config)
    bar = progress_bar(mine, desc=f"episodes of rank 0 of {comm.size}", disable=comm.rank > 0, unit="episode")
    with mpi.hang_limit(comm) as within_limit:
        for index in bar:
            episode, seed = record(env, config, index, within_limit)
            source = {"round": config.round, "policy": config.policy, "reset_seed": seed}
            writer.write(episodes.path_of(run, index), episode, source)
    env.close()


def extract_by_agent(comm: mpi.Comm, run: Run, missing: list[int], writer: Writer) -> None:
    """Records this rank's share of the episodes that the last round's agent plays, with that round's V and M."""
    config, before = run.config, mpi.on_root(comm, lambda: run.before)
    explorers = mpi.on_all_ranks(comm, Explorers, before, config)
    agents = mpi.on_all_ranks(comm, lambda: [explorers.agent(index) for index in missing])
    # Seeds as random episodes have them: the first of those that belong to this number.
    plan = [seeds.episode_seeds(config.seed, "record", ATTEMPTS * index, 1)[0] for index in missing]
    paths = [episodes.path_of(run, index) for index in missing]
    play_and_write(comm, before, agents, plan, paths, writer)


def extract_held_out(comm: mpi.Comm, run: Run, count: int) -> None:
    """Records `count` episodes of the run's own agent in DIR/held_out, from which no V or M learns. Episodes of an
    earlier agent are recorded again."""
    paths = [run / "held_out" / EPISODE.format(index) for index in range(count)]
    agent = mpi.on_all_ranks(comm, Explorers, run, run.config).kept()
    agent.source |= {"held_out": True}

    def is_kept(path: Path) -> bool:
        return path.exists() and episodes.read_source(path).get("agent") == agent.source["agent"]

    missing = mpi.on_root(comm, lambda: [index for index, path in enumerate(paths) if not is_kept(path)])
    if missing:
        # These seeds come after those of all that a run may record.
        plan = [seeds.episode_seeds(run.config.seed, "record", seeds.RANGE // 2 + index, 1)[0] for index in missing]
        writer = Writer(comm, run.config, len(missing))
        play_and_write(comm, run, [agent] * len(missing), plan, [paths[index] for index in missing], writer)
    mpi.wait(comm)


class Recorder(Watcher):
    """Records the episodes that lanes play: calls `write(job, episode)` with each finished episode's arrays."""

    def __init__(self, write: Callable[[int, dict[str, np.ndarray]], object]):
        self.episodes: dict[int, Episode] = {}  # by lane
        self.write = write

    def start(self, lane: int, job: int) -> None:
        self.episodes[lane] = Episode()

    def step(self, step: Step) -> None:
        for lane in step.playing:
            outcome = (step.reward[lane], step.terminated[lane], step.truncated[lane])
            self.episodes[lane].add(step.frames[lane].copy(), step.action[lane], *outcome)

    def end(self, lane: int, job: int, total: float, steps: int) -> float:
        self.write(job, self.episodes[lane].arrays())
        return total


def play_and_write(
    comm: mpi.Comm, models: Run, agents: list[Explorer], plan: list[int], paths: list[Path], writer: Writer
) -> None:
    """agents[k] plays an episode with the seed plan[k], with the V and M of the run `models`, and it is written to
    paths[k]."""
    # A new round may have other heads and features than the models.
    acting = dataclasses.replace(
        writer.config, play_in="real", dtype="float32", heads=models.config.heads, features=models.config.features
    )
    quiet_tensorflow()
    from controller.lanes import make_lanes  # here: ranks that record random episodes do not load TensorFlow

    lanes = mpi.on_all_ranks(comm, lambda: make_lanes(models, acting, to_the_end=True))
    made_from = mpi.on_root(comm, lambda: {"vae": models.digest(V), "rnn": models.digest(M)})

    def write(job: int, episode: dict[str, np.ndarray]) -> None:
        writer.write(paths[job], episode, agents[job].source | made_from | {"reset_seed": plan[job]})

    jobs, bar = Jobs(comm, len(plan)), Bar(comm, len(plan), "the agent's episodes")
    noises = [agent.noise for agent in agents]
    play(lanes, jobs, [agent.parameters for agent in agents], plan, [Recorder(write), bar], noises)
    jobs.close()
    bar.tqdm.close()
    lanes.close()
