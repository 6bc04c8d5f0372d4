"""TensorFlow, imported without the messages of its start and of its search for GPUs, which pass every log level.

from world_models.quiet import tf
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from world_models.progress import silenced

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # an error that matters is raised as well


@contextmanager
def silent() -> Iterator[None]:
    """Context manager: what this process writes to stderr, from any language, is dropped, except for notes."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    silenced.append(saved)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        silenced.remove(saved)
        os.close(saved)
        os.close(null)


with silent():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices()

keras.config.set_image_data_format("channels_last")  # whatever ~/.keras/keras.json says
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)

__all__ = ["silent", "tf"]
