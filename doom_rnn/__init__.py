"""Dreams: DoomRNN-v0, and how well Doom's M predicts deaths. Importing this registers the dreams with Gymnasium.

M itself is in rnn/, its restart head, with which it predicts deaths, in rnn/restart.py.
"""

import gymnasium

import tasks

for task in tasks.TASKS.values():
    if task.dream_id is not None:
        kwargs = {"task": task.name}
        gymnasium.register(f"WorldModels/{task.dream_id}", entry_point="doom_rnn.dream:DreamEnv", kwargs=kwargs)
