"""Which episodes the candidates of a generation play: always new ones, or half of them hard ones once more."""

import numpy as np

from world_models import seeds
from world_models.config import Config, rollouts_at

# Seeds a round: each has tracks of its own, but for a search of more than four million episodes.
ROUND = 1 << 22
SHARE = 2  # one in so many of a generation's tracks is replayed
HARDEST = 5  # replayed tracks are drawn from the hardest of so many parts of the tracks met so far


class Tracks:
    """Seeds of the episodes that the candidates play, on rank 0.

    With `tracks` "replay" this is prioritised level replay (Jiang et al., arXiv 2010.03934): a track's priority is what
    the population lost on it, compared with the median of the generation that played it last.

    Attributes:
        loss: points lost, by seed, of the tracks met so far; empty with `tracks` "uniform".
    """

    def __init__(self, config: Config, loss: dict[int, float] | None = None):
        self.config, self.loss = config, dict(loss or {})

    def plan(self, generation: int) -> np.ndarray:
        """Seeds (population, episodes) of the episodes of `generation`, from 1.

        With `seed_sharing` "pairs", candidates i and i + half share theirs (the release's "antithetic"); with "common",
        all.
        """
        config, episodes = self.config, rollouts_at(self.config.rollouts, generation)
        sets = config.population // 2 if config.seed_sharing == "pairs" else 1
        used = sum(rollouts_at(config.rollouts, g) for g in range(1, generation)) * sets
        first = ROUND * (config.round - 1) + used
        own = np.array(seeds.episode_seeds(config.seed, "train", first, sets * episodes)).reshape(sets, episodes)
        rng = seeds.generator(config.seed, "tracks", config.round, generation)
        replayed = episodes // SHARE
        hardest = sorted(self.loss, key=self.loss.__getitem__, reverse=True)
        hardest = hardest[: max(replayed, len(hardest) // HARDEST)]
        if count := min(replayed, len(hardest)):
            for row in own:
                row[:count] = rng.choice(hardest, count, replace=False)
        return np.tile(own, (config.population // sets, 1))

    def learn(self, plan: np.ndarray, returns: np.ndarray) -> None:
        """Notes what a generation lost on each of its tracks: seeds and returns (population, episodes)."""
        if self.config.tracks == "replay":
            median = np.median(returns)
            self.loss |= {int(seed): float(median - returns[plan == seed].mean()) for seed in np.unique(plan)}
