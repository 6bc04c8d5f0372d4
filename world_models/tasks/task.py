"""What a task is: all in which one differs from another, as data.

A new task is a file in this folder that makes a `Task`, and its name in `tasks/__init__.py`. No other code asks
which task it has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from world_models.config import Config


class Policy(Protocol):
    """A data-collection policy during one episode."""

    def act(self, frame: int) -> np.ndarray:
        """The action, float32 (A,), at a frame counted from 0; called once a frame, in order."""


def identity(a: Any, ops: Any) -> Any:
    """Actions as tanh leaves them, in -1..1."""
    return a


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: its name for --task, and in file names.
        label: the environment in tables of results.
        description: the environment in a model card; {max_frames} stands for the run's.
        returns: what a return is, with its unit: the label of an axis.
        env_id: the environment's id, as papers and the hub call it; `WorldModels/ID` for Gymnasium.
        make_env: make_env(config, render_mode) -> a new environment with observations uint8 (64, 64, 3) and
            actions (A,), without Gymnasium's wrappers; the caller cuts episodes at `config.max_frames`.
        low: (A,), the least value of each number of an action; the greatest is 1.
        policies: data-collection policies by their name for --policy: policy(rng) -> a `Policy` for one episode.
        fps: frames a second of a film at the game's own speed.
        presets: changes to the configuration by name: "paper" applies to every preset, before the changes that a
            preset makes for all tasks (config.PRESETS); "laptop" and "smoke" apply after them. `frames` is no setting:
            there are so many episodes that their frames are about as many, but `episodes` at least.
        mean_length: mean_length(limit) -> the steps of an episode of the random policy, cut after `limit` steps; for
            presets with `frames`.
        entry_point: where Gymnasium finds the environment's class, "module:Class"; None: it is not registered.
        time_limit: steps after which Gymnasium's wrapper cuts an episode of the registered environment.
        episode_limit: steps after which the game itself ends an episode.
        views: the cameras by their name for --view, each with its environment's id; empty if there is one only. The
            first is the default, and that of published scores.
        variants: changes of the picture for tests of generalisation, by their name for --variant; the first is the game
            as it is.
        squash: squash(a, ops): tanh outputs (B, A) -> actions (B, A), in terms of an array module's functions.
        choice: whether an action is one of A choices: 1 for the chosen one, 0 for the others (`actions.one_hot`). C
            chooses by its outputs before tanh.
        biases: whether C's output layer has biases.
        mirror: (A,), factors that make an action that of the mirror image; None: the game is not symmetric.
        stops_at_end: whether a recorded episode stops where it is terminated, or goes on to --max-frames. If it
            stops, episodes are of unequal lengths, and M is trained on them end to end.
        max_lanes: environments that a rank may have at once.
        dream_reward: reward of a step in the dream of an M without a reward head; None: no agent can be evolved there.
        dream_id: the id of its dream, `WorldModels/ID` for Gymnasium; None: it is not registered.
        mark: the return from which an episode counts as solved.
        published: its key in published.json.
    """

    name: str
    label: str
    description: str
    returns: str
    env_id: str
    make_env: Callable[[Config, str | None], gym.Env]
    low: tuple[float, ...]
    policies: Mapping[str, Callable[[np.random.Generator], Policy]]
    fps: int
    presets: Mapping[str, dict] = field(default_factory=dict)
    mean_length: Callable[[int], float] | None = None
    entry_point: str | None = None
    time_limit: int | None = None
    episode_limit: int | None = None
    views: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[str, ...] = ("plain",)
    squash: Callable = identity
    choice: bool = False
    biases: bool = True
    mirror: tuple[float, ...] | None = None
    stops_at_end: bool = True
    max_lanes: int | None = None
    dream_reward: float | None = None
    dream_id: str | None = None
    mark: float | None = None
    published: str | None = None

    @property
    def file_name(self) -> str:
        """Its name in the names of files."""
        return self.name.replace(":", "-").replace("/", "-")

    @property
    def action_size(self) -> int:
        """Numbers in an action (A)."""
        return len(self.low)

    @property
    def published_view(self) -> str | None:
        """The camera of published scores; None if there is one camera only."""
        return next(iter(self.views), None)

    @property
    def evolves_in_dreams(self) -> bool:
        """Whether C can be evolved in the dream of an M without a reward head: so were the published agents."""
        return self.dream_reward is not None

    def environment(self, view: str | None) -> str:
        """The id of the environment as seen by one of its cameras."""
        return self.views[view or next(iter(self.views))] if self.views else self.env_id
