"""Settings that the user's account makes for other programs, such as a notebook's, do not reach these.

Importing this module before matplotlib, Keras and numba is enough: every package of the project does so first.
"""

import os
import sys
import warnings
from importlib.util import find_spec


def reset() -> None:
    """Removes those variables of the environment that would change or stop what is imported after. A library that was
    imported before, by the caller, keeps what it has read."""
    backend = os.environ.get("MPLBACKEND", "").removeprefix("module://").partition(".")[0]
    if "matplotlib" not in sys.modules and not (backend and find_spec(backend)):
        os.environ.pop("MPLBACKEND", None)  # a Jupyter kernel hands its own backend to every program that it starts
    if "keras" not in sys.modules:
        os.environ |= {"KERAS_BACKEND": "tensorflow", "KERAS_NNX_ENABLED": "false"}
    if "tensorflow" not in sys.modules:
        os.environ.pop("XLA_FLAGS", None)  # JAX's users set flags that TensorFlow's own XLA does not know
    if "numba" not in sys.modules:
        os.environ["NUMBA_DISABLE_JIT"] = "0"  # the games and dreams are compiled, or they take hours
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.simplefilter("default")  # a warning of Box2D's import would end the process in a segmentation fault


reset()
