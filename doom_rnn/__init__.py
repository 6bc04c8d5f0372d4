"""Dreams and what agents of dreams play awake. Importing this registers with Gymnasium:

WorldModels/DoomRNN-v0, WorldModels/CarRacingDream-v0   M's dream of that task
WorldModels/Dream-v0                                    M's dream of a run of any task
WorldModels/Latent-v0                                   the game itself, seen through V and M as a dream is

`gymnasium.make` gives one dream, `gymnasium.make_vec` a compiled batch of them (doom_rnn/vector.py).
"""

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported; an error that matters is raised too

import gymnasium

from world_models import tasks

DREAM: dict[str, Any] = dict(entry_point="doom_rnn.env:DreamEnv", vector_entry_point="doom_rnn.vector:VectorDreamEnv")

gymnasium.register("WorldModels/Dream-v0", **DREAM)
gymnasium.register("WorldModels/Latent-v0", entry_point="doom_rnn.latent:LatentEnv")
for task in tasks.TASKS.values():
    if task.dream_id is not None:
        gymnasium.register(f"WorldModels/{task.dream_id}", **DREAM, kwargs={"task": task.name})
