"""A batch of dreams as one vector environment: M steps all of them in one compiled call."""

from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle, seeding
from gymnasium.vector import AutoresetMode

from doom_rnn.dream import Dreams, Randomness

DRAWN = 50  # steps for which a lane's randomness is drawn at once


class VectorDreamEnv(gym.vector.VectorEnv, EzPickle):
    """Dreams that advance together, each as `DreamEnv` with the same seed and actions.

        gymnasium.make_vec("doom_rnn:WorldModels/DoomRNN-v0", num_envs=1024, run="runs/doom", temperature=1.15)

    Args:
        num_envs: dreams (B).
        run, temperature, task: as of `DreamEnv`.
        autoreset_mode: when a dream that has ended restarts: in the step after ("NextStep", Gymnasium's default, in
            which its action is ignored and its reward 0), or at once ("SameStep", with infos["final_obs"]).

    Observations float32 (B, Z + 2 U), actions (B, A), rewards float32 (B,).
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 Gymnasium's convention

    def __init__(
        self,
        num_envs: int,
        run: str | Path,
        temperature: float | None = None,
        task: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: None = None,
    ):
        EzPickle.__init__(self, num_envs, run, temperature, task, autoreset_mode, render_mode)
        if render_mode is not None:
            raise ValueError(f"render_mode {render_mode!r}: a batch of dreams is not drawn; DreamEnv draws one")
        self.num_envs, self.render_mode = num_envs, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        if self.autoreset_mode == AutoresetMode.DISABLED:
            raise ValueError("autoreset_mode: expected NextStep or SameStep, got Disabled")
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.dreams = Dreams(run, temperature, task)
        self.config = self.dreams.config
        self.single_observation_space, self.single_action_space = self.dreams.spaces
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        z_size, units = self.config.z_size, self.config.rnn_units
        self.z, self.h, self.c = (np.zeros((num_envs, size), np.float32) for size in (z_size, units, units))
        self.is_first, self.steps = np.ones((num_envs, 1), np.float32), np.zeros(num_envs, int)
        self.uniform = np.zeros((num_envs, DRAWN, z_size), np.float32)
        self.noise = np.zeros_like(self.uniform)
        self.dropout = np.zeros((num_envs, 4, z_size + units), np.float32) if self.config.dream_dropout else None
        self.random: list[Randomness | None] = [None] * num_envs
        self.generators: list[np.random.Generator | None] = [None] * num_envs
        self.over = np.zeros(num_envs, bool)  # dreams that restart in the next step

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        """Begins all dreams, or those of `options["reset_mask"]`, bool (B,).

        An integer `seed` gives dream k the seed `seed` + k; a list has a seed, or None, for each dream. ValueError if
        its length, or the mask's shape, is not the number of dreams.
        """
        options = options or {}
        if "temperature" in options:
            self.dreams.set_temperature(options["temperature"])
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.dtype != bool or mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask: expected bool ({self.num_envs},), got {mask.dtype} {mask.shape}")
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + k for k in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed: expected {self.num_envs} seeds, one for each dream, got {len(seeds)}")
        for lane in np.flatnonzero(mask).tolist():
            if self.generators[lane] is None or seeds[lane] is not None:
                self.generators[lane] = seeding.np_random(seeds[lane])[0]
            self._begin(lane, seeds[lane])
        self.over[mask] = False
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        if None in self.random:
            raise gym.error.ResetNeeded("dreams begin with reset(): call it before step()")
        actions = self.dreams.actions(actions, self.num_envs)
        at = self.steps % DRAWN
        for lane in np.flatnonzero(at == 0).tolist():
            random = self.random[lane]
            assert random is not None
            random.uniform.random(dtype=np.float32, out=self.uniform[lane])
            random.noise.standard_normal(dtype=np.float32, out=self.noise[lane])
        lanes = np.arange(self.num_envs)
        randomness = (self.uniform[lanes, at], self.noise[lanes, at])
        results = self.dreams.imagine(actions, self.z, self.is_first, self.h, self.c, *randomness, self.dropout)
        self.z, end, reward, self.h, self.c = results
        self.is_first[:] = 0
        self.steps += 1
        terminated, reward = end[:, 0] > 0.5, reward[:, 0]
        truncated = ~terminated & (self.steps >= self.config.dream_limit)
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            reward[self.over], terminated[self.over], truncated[self.over] = 0, False, False
            for lane in np.flatnonzero(self.over).tolist():
                self._begin(lane, None)
            self.over = terminated | truncated
            return self._observe(), reward, terminated, truncated, {}
        infos = {}
        if (ended := terminated | truncated).any():
            last = np.full(self.num_envs, None, object)
            seen = self._observe()
            for lane in np.flatnonzero(ended).tolist():
                last[lane] = seen[lane]
                self._begin(lane, None)
            infos = {"final_obs": last, "_final_obs": ended}
        return self._observe(), reward, terminated, truncated, infos

    def _begin(self, lane: int, seed: int | None) -> None:
        """Begins a dream, with a seed of the lane's own stream if none is given."""
        generator = self.generators[lane]
        assert generator is not None, "reset() makes it"
        random = Randomness(int(generator.integers(1 << 31)) if seed is None else seed)
        self.z[lane], self.h[lane], self.c[lane] = random.first(self.dreams.starts), 0, 0
        self.is_first[lane], self.steps[lane], self.random[lane] = 1, 0, random
        if self.dropout is not None:
            self.dropout[lane] = random.dropout(self.config)

    def _observe(self) -> np.ndarray:
        return np.concatenate([self.z, self.c, self.h], axis=1)
