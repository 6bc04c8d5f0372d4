"""A batch of dreams as one vector environment: M steps all of them in one compiled call."""

from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle, seeding
from gymnasium.vector import AutoresetMode

from doom_rnn.env import Dreams


class VectorDreamEnv(gym.vector.VectorEnv, EzPickle):
    """Dreams that advance together, each as `DreamEnv` with the same seed and actions.

        gymnasium.make_vec("doom_rnn:WorldModels/DoomRNN-v0", num_envs=1024, run="runs/doom", temperature=1.15)

    Args:
        num_envs: dreams (B).
        run, temperature, task: as in `DreamEnv`.
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
        self.dreams = Dreams(run, temperature, task, num_envs)
        self.single_observation_space, self.single_action_space = self.dreams.spaces
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.generators: dict[int, np.random.Generator] = {}  # by lane, of the seeds of further dreams
        self.over = np.zeros(num_envs, bool)  # dreams that restart in the next step

    def reset(self, *, seed: int | list | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
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
            if lane not in self.generators or seeds[lane] is not None:
                self.generators[lane] = seeding.np_random(seeds[lane])[0]
            self._begin([lane], seeds[lane])
        self.over[mask] = False
        return self.dreams.observe(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        reward, terminated, truncated = self.dreams.step(actions)
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            reward[self.over], terminated[self.over], truncated[self.over] = 0, False, False
            self._begin(np.flatnonzero(self.over).tolist())
            self.over = terminated | truncated
            return self.dreams.observe(), reward, terminated, truncated, {}
        infos = {}
        if (ended := terminated | truncated).any():
            last, seen = np.full(self.num_envs, None, object), self.dreams.observe()
            lanes = np.flatnonzero(ended).tolist()
            for lane in lanes:
                last[lane] = seen[lane]
            self._begin(lanes)
            infos = {"final_obs": last, "_final_obs": ended}
        return self.dreams.observe(), reward, terminated, truncated, infos

    def _begin(self, lanes: list[int], seed: int | None = None) -> None:
        """Begins dreams, with seeds of the lanes' own streams if none is given."""
        for lane in lanes:
            self.dreams.begin(lane, int(self.generators[lane].integers(1 << 31)) if seed is None else seed)
