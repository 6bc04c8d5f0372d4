"""C: the controller, a linear map from what V and M know to an action.

One class serves one agent in numpy and a whole population inside TensorFlow: `act` takes the array module as an
argument (`numpy`, or `keras.ops`, which has the same names). The flat parameter vector has the release's layout
(carracing/model.py, doomrnn/model.py): a layer's biases stand before its weights.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from world_models import tasks
from world_models.config import Config
from world_models.tasks.actions import one_hot
from world_models.tasks.task import Task

HIDDEN = 40  # tanh units of "z_hidden" (paper 3.4; carracing/model.py)
# What C sees: M's cell state stands before its hidden state (doomrnn/model.py).
INPUTS = {"z": "z", "z_hidden": "z", "zh": "zh", "zc": "zc", "zch": "zch"}


@dataclass(frozen=True)
class Controller:
    """C's architecture; its parameters are an argument, since every agent of a population has its own.

    Args:
        task: decides the size of an action, how it is squashed, and whether the output layer has biases.
        features: what C sees: "z", "z_hidden" (z through a hidden layer), "zh", "zc" or "zch".
        z_size: dimensions of z (Z).
        units: M's units (U).
    """

    task: Task
    features: str
    z_size: int
    units: int

    @classmethod
    def of(cls, config: Config) -> "Controller":
        """The run's."""
        return cls(tasks.get(config.task), config.features, config.z_size, config.rnn_units)

    @property
    def layers(self) -> list[tuple[int, int, bool]]:
        """(inputs, outputs, has biases) of each layer."""
        size = sum({"z": self.z_size, "c": self.units, "h": self.units}[part] for part in INPUTS[self.features])
        hidden = [(size, HIDDEN, True)] if self.features == "z_hidden" else []
        return [*hidden, (HIDDEN if hidden else size, self.task.action_size, self.task.biases)]

    @property
    def num_params(self) -> int:
        """Parameters (P): 867 for CarRacing's [z, h], 1,088 for Doom's [z, c, h]."""
        return sum((inputs + biases) * outputs for inputs, outputs, biases in self.layers)

    def act(self, params: Any, z: Any, c: Any, h: Any, ops: Any = np, push: Any = None) -> Any:
        """The actions of B agents, each with parameters of its own (paper A.4, A.5).

        Args:
            params: (B, P), flat parameters.
            z: (B, Z).
            c, h: (B, U), M's state; unused where the features lack them.
            ops: the array module, `numpy` or `keras.ops`.
            push: (B, A), noise on C's outputs, which stay in -1..1. Choices are made by the outputs before tanh, with
                the whole noise.

        Returns:
            (B, A), squashed as the task's actions are, or 1 for the choice and 0 for the others.
        """
        parts = {"z": z, "c": c, "h": h}
        x = ops.concatenate([parts[part] for part in INPUTS[self.features]], axis=-1)
        start = 0
        for number, (inputs, outputs, biases) in enumerate(self.layers):
            x = ops.tanh(x) if number else x
            bias = params[:, start : start + outputs] if biases else 0.0
            start += outputs * biases
            weight = ops.reshape(params[:, start : start + inputs * outputs], (-1, inputs, outputs))
            start += inputs * outputs
            x = ops.einsum("bi,bio->bo", x, weight) + bias
        if self.task.choice:
            return one_hot(x if push is None else x + push, ops)
        x = ops.tanh(x)
        if push is not None:
            x = ops.clip(x + push, -1.0, 1.0)
        return self.task.squash(x, ops)
