"""World Models (Ha & Schmidhuber, 2018). Importing this registers the games with Gymnasium:

gymnasium.make("world_models:WorldModels/CarRacing-v0", view="v0", pixels="paper")
gymnasium.make("world_models:WorldModels/DoomTakeCover-v0")
"""

from world_models import account  # noqa: F401 before any other import
from world_models.environments import make_env

__all__ = ["make_env"]
