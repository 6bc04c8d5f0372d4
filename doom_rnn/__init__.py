"""Dreams: DoomRNN-v0, and Dream-v0 of a run of any task. Importing this registers them with Gymnasium."""

import gymnasium

import tasks

gymnasium.register("WorldModels/Dream-v0", entry_point="doom_rnn.dream:DreamEnv")
for task in tasks.TASKS.values():
    if task.dream_id is not None:
        kwargs = {"task": task.name}
        gymnasium.register(f"WorldModels/{task.dream_id}", entry_point="doom_rnn.dream:DreamEnv", kwargs=kwargs)
