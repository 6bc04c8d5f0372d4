"""The tasks as Gymnasium environments; they live in `world_models.environments`.

gymnasium.make("env:WorldModels/CarRacing-v0", view="v0", pixels="paper")
gymnasium.make("env:WorldModels/DoomTakeCover-v0")
"""

from world_models.environments import make_env

__all__ = ["make_env"]
