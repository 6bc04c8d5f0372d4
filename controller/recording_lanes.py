"""Lanes that keep the episodes they play, to be recorded."""

import dataclasses
from pathlib import Path

import numpy as np

from controller.agent import make_agent
from controller.episode import Episode
from controller.lanes import RealLanes, make_real_lanes
from world_models import tasks
from world_models.config import Config
from world_models.seeds import generator
from world_models.world_model import WorldModel

KEEP = 0.95  # of the noise on C's outputs, from step to step: a push lasts about 20 steps


def make_lanes(run: Path, config: Config) -> "RecordingLanes":
    """The lanes of a rank, with the V and M of a folder."""
    return make_real_lanes(run, dataclasses.replace(config, dtype="float32"), RecordingLanes)


class RecordingLanes(RealLanes):
    """Real lanes whose episodes are kept, and whose agents may have noise on C's outputs.

    As in random recordings, episodes go on to `max_frames` if the task does not stop at the end.

    Attributes:
        episodes: what each lane plays, an `Episode`.
        noises: standard deviation of the noise on C's outputs, by the episode's seed.
    """

    def __init__(self, config: Config, model: WorldModel, count: int):
        super().__init__(config, model, count)
        self.masked = config.vae_weight != 1
        self.stops = tasks.get(config.task).stops_at_end
        self.agent = make_agent(config, model, count, pushed=True)
        self.episodes: list[Episode] = [Episode() for _ in range(count)]
        self.noises: dict[int, float] = {}
        self.push = np.zeros((count, tasks.get(config.task).action_size), np.float32)
        self.pushes = [0.0] * count
        self.streams: list[np.random.Generator | None] = [None] * count

    def start(self, lane: int, params: np.ndarray, seed: int, patience: int = 0) -> None:
        super().start(lane, params, seed, patience)
        self.episodes[lane] = Episode()
        self.pushes[lane] = self.noises.get(seed, 0.0)
        self.push[lane] = 0
        self.streams[lane] = generator(seed, "noise of actions")

    def advance(self) -> list[tuple[int, float, int]]:
        playing = [lane for lane in range(self.count) if self.random[lane] is not None]
        for lane in playing:
            self.random[lane].standard_normal(dtype=np.float32, out=self.noise[lane])
            draw = self.streams[lane].standard_normal(self.push.shape[1], np.float32)
            self.push[lane] = KEEP * self.push[lane] + self.pushes[lane] * np.sqrt(1 - KEEP**2) * draw
        inputs = (self.frames, self.noise, self.params, self.is_first, self.h, self.c, self.push)
        action, self.h, self.c = self.agent(*inputs)
        action = action.numpy()
        self.is_first[:] = 0
        ended = []
        for lane in playing:
            before, mask = self.frames[lane].copy(), self.envs[lane].mask if self.masked else None
            self.frames[lane], reward, terminated, truncated = self.step(lane, action[lane])
            episode = self.episodes[lane]
            episode.add(before, action[lane], reward, terminated, truncated, mask)
            steps = len(episode.actions)
            if steps == self.config.max_frames or (episode.over and self.stops):
                ended.append((lane, sum(episode.rewards[: episode.end]), steps))
                self.random[lane] = None
        return ended
