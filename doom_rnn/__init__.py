"""Doom's M, and dreams. Importing this registers the dreams with Gymnasium."""

import gymnasium

gymnasium.register("WorldModels/DoomRNN-v0", entry_point="doom_rnn.dream:DreamEnv")
gymnasium.register("WorldModels/CarRacingDream-v0", entry_point="doom_rnn.dream:CarRacingDreamEnv")
