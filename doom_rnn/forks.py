"""TensorFlow is not fork-safe: a process that is forked after it has started hangs at its first step."""

import os

from world_models import quiet  # noqa: F401  imports TensorFlow without its messages, before any other module does
from world_models.config import UserError

_inherited = [False]  # whether TensorFlow had started when this process was forked


def _forked() -> None:
    from tensorflow.python.eager import context  # here: TensorFlow is imported by then

    _inherited[0] = context.context()._initialized  # no public function tells this without starting it


os.register_at_fork(after_in_child=_forked)


def require_own_tensorflow() -> None:
    """UserError in a process forked from one in which TensorFlow had started."""
    if _inherited[0]:
        raise UserError(
            "TensorFlow had started before this process was forked, and would hang in it; start processes afresh: "
            "gymnasium.make_vec(..., vectorization_mode='async', vector_kwargs={'context': 'spawn'})"
        )
