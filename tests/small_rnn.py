"""A small M, and series of latents for it."""

import numpy as np

from rnn.data import LatentDataset
from world_models import config as configs
from world_models import tasks


def small(task: str) -> configs.Config:
    return configs.Config(**{**vars(tasks.preset(task, "smoke")), "rnn_units": 16, "rnn_length": 12, "rnn_batch": 4})


def make_series(config: configs.Config, lengths: list[int]) -> LatentDataset:
    rng = np.random.default_rng(0)
    total = sum(lengths)
    mu = rng.normal(size=(total, config.z_size)).astype(np.float16)
    action = rng.normal(size=(total, tasks.get(config.task).action_size)).astype(np.float32)
    ends = np.array(lengths) + (not tasks.get(config.task).stops_at_end)  # CarRacing's go on after the end
    return LatentDataset(mu, np.full_like(mu, -2), action, np.full(total, 0.5, np.float32), ends, np.array(lengths))
