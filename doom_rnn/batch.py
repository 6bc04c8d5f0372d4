"""Whole populations dreaming at once, in one compiled loop."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from config import Config
from doom_rnn.dream import Dream, Randomness, read_starts

SEGMENT = 50  # steps dreamed between two looks at who has ended


class DreamLanes:
    """Lanes in Doom's dream, for `controller.rollout.play`; their return is the steps survived.

    All lanes advance together through compiled segments of SEGMENT steps; the randomness of a segment is drawn
    beforehand, each lane's from its own seed. A lane whose agent dies inside a segment idles to its end.

    Args:
        config: the run's.
        rnn: M with its weights.
        starts: initial_z.npz.
        count: lanes.
        act: C in TensorFlow, act(params (B, P), z, c, h) -> actions (B, A); `parameters` is its P.
    """

    def __init__(self, config: Config, rnn, starts: Path, count: int, act: Callable, parameters: int):
        self.config, self.count, self.dream, self.act = config, count, Dream(config, rnn), act
        self.mu, self.logvar = read_starts(starts, config)
        sizes = dict(z=config.z_size, params=parameters, restart=1, h=config.rnn_units, c=config.rnn_units)
        self.state = {name: np.zeros((count, size), np.float32) for name, size in sizes.items()}
        self.steps = np.zeros((count, 1), np.int32)
        self.playing = np.zeros((count, 1), bool)
        self.random: list[Randomness | None] = [None] * count
        self.uniform = np.zeros((count, SEGMENT, config.z_size), np.float32)
        self.noise = np.zeros_like(self.uniform)
        self.segment = tf.function(self._segment, jit_compile=True, autograph=False)

    def start(self, lane: int, params: np.ndarray, seed: int, patience: int = 0) -> None:
        """Begins a dream in a lane. Every step of it is rewarded, so no `patience` is ever lost."""
        self.random[lane] = Randomness(seed)
        self.state["z"][lane] = self.random[lane].first(self.mu, self.logvar)
        self.state["params"][lane], self.state["restart"][lane] = params, 1
        self.state["h"][lane] = self.state["c"][lane] = 0
        self.steps[lane], self.playing[lane] = 0, True

    def _segment(self, z, params, restart, h, c, steps, playing, uniform, noise):
        """SEGMENT steps of all lanes; uniform and noise (SEGMENT, B, Z)."""
        config = self.config

        def step(t, z, restart, h, c, steps, playing):
            action = self.act(params, z, c, h)
            z, death, h, c = self.dream.step(z, action, restart, h, c, config.temperature, uniform[t], noise[t])
            steps = steps + tf.cast(playing, tf.int32)
            playing = playing & (death < 0.5) & (steps < config.max_frames)
            return t + 1, z, tf.zeros_like(restart), h, c, steps, playing

        loop = (0, z, restart, h, c, steps, playing)
        return tf.while_loop(lambda t, *_: t < SEGMENT, step, loop, maximum_iterations=SEGMENT)[1:]

    def advance(self) -> list[tuple[int, float, int]]:
        """SEGMENT steps of every lane; (lane, return, steps) of the dreams that ended in them."""
        for lane in np.flatnonzero(self.playing):
            self.random[lane].uniform.random(dtype=np.float32, out=self.uniform[lane])
            self.random[lane].noise.standard_normal(dtype=np.float32, out=self.noise[lane])
        before = self.playing.copy()
        randomness = (a.transpose(1, 0, 2) for a in (self.uniform, self.noise))
        results = self.segment(*self.state.values(), self.steps, self.playing, *randomness)
        for name, value in zip(("z", "restart", "h", "c"), results[:4], strict=True):
            self.state[name] = value.numpy().copy()
        self.steps, self.playing = (value.numpy().copy() for value in results[4:])
        ended = np.flatnonzero(before & ~self.playing)
        return [(int(lane), float(self.steps[lane, 0]), int(self.steps[lane, 0])) for lane in ended]

    def close(self) -> None:
        pass
