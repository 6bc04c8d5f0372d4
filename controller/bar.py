"""The progress bar of a search. It moves with every episode."""

import itertools

from controller.rollout import Watcher
from world_models import config as configs
from world_models.mpi import Comm
from world_models.progress import bar as progress_bar


def is_evaluated(config: configs.Config, generation: int) -> bool:
    return generation % config.eval_every == 0 or generation == config.generations


def episodes_of(config: configs.Config, generation: int) -> int:
    """The episodes that a generation and its evaluation play."""
    agents = 2 if config.average and min(generation, config.average) > 1 else 1
    scored = agents * config.eval_episodes if is_evaluated(config, generation) else 0
    return config.population * configs.rollouts_at(config.rollouts, generation) + scored


class EpisodeBar(Watcher):
    """The progress bar of a search, on rank 0. It counts this rank's episodes for all ranks, and is right at the end of
    each generation."""

    def __init__(self, comm: Comm, config: configs.Config, first: int):
        self.config, self.ranks = config, comm.size
        self.counts = [0, *itertools.accumulate(episodes_of(config, g) for g in range(1, config.generations + 1))]
        ranks = f"{comm.size} rank{'s' * (comm.size > 1)}"
        self.bar = progress_bar(
            total=self.counts[-1],
            initial=self.counts[first - 1],
            desc=f"evolving C on {ranks}, generation {first}/{config.generations}",
            unit="episode",
            disable=comm.rank > 0,
        )
        self.limit = self.counts[min(first, config.generations)]

    def end(self, lane: int, job: int, total: float, steps: int) -> float:
        self.bar.update(min(self.ranks, self.limit - self.bar.n))
        return total

    def close_generation(self, generation: int, text: str) -> None:
        self.bar.update(self.counts[generation] - self.bar.n)
        self.bar.set_postfix_str(text)
        if generation < self.config.generations:
            ranks = f"{self.ranks} rank{'s' * (self.ranks > 1)}"
            self.bar.set_description(f"evolving C on {ranks}, generation {generation + 1}/{self.config.generations}")
            self.limit = self.counts[generation + 1]

    def write(self, text: str) -> None:
        self.bar.write(text)

    def close(self) -> None:
        self.bar.close()
