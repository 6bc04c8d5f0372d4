"""An episode while it is played: frames, actions, rewards, and where it was over."""

import numpy as np


class Episode:
    """An episode as it is played."""

    def __init__(self):
        self.masks = []
        self.observations, self.actions, self.rewards, self.end, self.over = [], [], [], None, False

    def add(
        self,
        observation: np.ndarray,
        action: np.ndarray,
        reward: float,
        terminated: bool,
        truncated: bool,
        mask: np.ndarray | None = None,
    ) -> None:
        """One step: the frame that was seen, what was done, and what came of it. One that is truncated is over, but has
        no end that M could learn."""
        self.observations.append(observation)
        if mask is not None:
            self.masks.append(mask)
        self.actions.append(action)
        self.rewards.append(float(reward))
        if terminated and not self.over:
            self.end = len(self.actions)
        self.over |= terminated or truncated

    def arrays(self) -> dict[str, np.ndarray]:
        masks = {"mask": np.stack(self.masks)} if self.masks else {}
        return masks | {
            "obs": np.stack(self.observations),
            "action": np.stack(self.actions).astype(np.float32),
            "reward": np.array(self.rewards, np.float32),
            "end": np.array(self.end or len(self.actions) + 1),
        }


def total_reward(episode: dict[str, np.ndarray]) -> float:
    """An episode's return: what was earned until it was over."""
    return float(episode["reward"][: int(episode["end"])].sum(dtype=np.float64))
