"""Dreams: M in the place of the environment (paper 4; doomrnn/doomrnn.py of the release).

A dream starts from a recorded frame, and M predicts one z after the other; with heads for the end of the episode or
the reward, those too. A `DreamBatch` holds several dreams, and `WorldModel.imagine` takes their steps. It serves both
the lanes in which a population plays (`controller.lanes.DreamLanes`) and the environments for agents of any kind
(`doom_rnn.env`), so the same seed and actions give the same dream in each.
"""

import numpy as np

from rnn.dropout import dropout_mask
from world_models.config import Config
from world_models.runs.arrays import FLOATS, open_npz, reading, require_finite
from world_models.runs.run import Run


class Starts:
    """The frames where dreams start: recorded first frames, from initial_z.npz.

    Attributes:
        mu, logvar: float32 (N, Z).
    """

    def __init__(self, run: Run):
        path = run.need("initial_z.npz")
        kinds = dict.fromkeys(("mu", "logvar"), (FLOATS, (None, run.config.z_size)))
        with reading(path, "holds no frames to start from", f"expected rows of {run.config.z_size} numbers"):
            with open_npz(path, kinds) as file:
                self.mu, self.logvar = (file[name].astype(np.float32) for name in kinds)
            if not 0 < len(self.mu) == len(self.logvar):
                raise ValueError(f"{len(self.mu)} rows of mu and {len(self.logvar)} of logvar")
        with np.errstate(over="ignore"):
            deviation = np.exp(self.logvar / 2)
        require_finite(path, {"mu": self.mu, "logvar": self.logvar, "exp(logvar / 2)": deviation})


class Randomness:
    """A dream's four streams, all from its seed: where it starts, which components, their noise, and dropout."""

    def __init__(self, seed: int):
        self.seed = seed
        self.start, self.uniform, self.noise = (np.random.default_rng([seed, k]) for k in range(3))

    def dropout(self, config: Config) -> np.ndarray | None:
        """The dream's dropout masks, (4, Z + U): of z and h, for each gate of M. None without dropout."""
        if not config.dream_dropout:
            return None
        shape = (4, config.z_size + config.rnn_units)
        return dropout_mask(np.random.default_rng([self.seed, 3]).random(shape, np.float32), config.dream_dropout)

    def first(self, starts: Starts) -> np.ndarray:
        """The first z (Z,): one of the stored frames, sampled. M's state before it is zero."""
        chosen = self.start.integers(len(starts.mu))
        noise = self.start.standard_normal(starts.mu.shape[1], np.float32)
        return starts.mu[chosen] + np.exp(starts.logvar[chosen] / 2) * noise


class DreamBatch:
    """B dreams that advance together: M's state, and the randomness of their next L steps. Its seed and its actions
    decide a dream, whatever its lane.

    Attributes:
        z, h, c, is_first: float32 (B, Z), (B, U), (B, U), (B, 1).
        steps: int32 (B, 1), since each dream began.
        uniform, noise: float32 (B, L, Z), drawn.
        dropout: float32 (B, 4, Z + U); None without dropout.
        random: by lane, of the dreams that have begun.
    """

    def __init__(self, config: Config, starts: Starts, count: int, length: int):
        self.config, self.starts, self.count, self.length = config, starts, count, length
        sizes = (config.z_size, config.rnn_units, config.rnn_units, 1)
        self.z, self.h, self.c, self.is_first = (np.zeros((count, size), np.float32) for size in sizes)
        self.steps = np.zeros((count, 1), np.int32)
        self.uniform, self.noise = (np.zeros((count, length, config.z_size), np.float32) for _ in range(2))
        masks = (count, 4, config.z_size + config.rnn_units)
        self.dropout = np.zeros(masks, np.float32) if config.dream_dropout else None
        self.random: dict[int, Randomness] = {}

    def begin(self, lane: int, seed: int) -> None:
        """Begins the dream of a seed in a lane."""
        random = self.random[lane] = Randomness(seed)
        self.z[lane], self.h[lane], self.c[lane] = random.first(self.starts), 0, 0
        self.is_first[lane], self.steps[lane] = 1, 0
        if self.dropout is not None:
            self.dropout[lane] = random.dropout(self.config)

    def draw(self, lanes: list[int]) -> None:
        """Draws the randomness of the next L steps in these lanes."""
        for lane in lanes:
            self.random[lane].uniform.random(dtype=np.float32, out=self.uniform[lane])
            self.random[lane].noise.standard_normal(dtype=np.float32, out=self.noise[lane])
