"""A trained agent in two lines:

from world_models.pretrained import load
world_model, controller, parameters = load("pretrained/carracing")
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from world_models.runs import agent
from world_models.runs.run import Run
from world_models.training import quiet_tensorflow

if TYPE_CHECKING:
    from controller.policy import Controller
    from world_models.world_model import WorldModel


class Pretrained(NamedTuple):
    """An agent that a run folder holds.

    Attributes:
        world_model: V and M: `world_model.observe` and `world_model.imagine` are one time step.
        controller: C: `controller.act(parameters, z, c, h)` gives actions (B, A).
        parameters: of C, float32 (1, P).
    """

    world_model: "WorldModel"
    controller: "Controller"
    parameters: np.ndarray


def load(path: str | Path) -> Pretrained:
    """Loads V, M and C of a run folder or a pack.

    Args:
        path: the folder.

    Raises:
        UserError: if a file is missing or damaged; it says which, and what makes it.
    """
    quiet_tensorflow()
    from controller.policy import Controller  # here, since both load TensorFlow
    from world_models.world_model import WorldModel

    run = Run(Path(path))
    controller = Controller.of(run.config)
    best = agent.read_best(run, controller.num_params)
    return Pretrained(WorldModel.load(run), controller, np.array([best["parameters"]], np.float32))
