"""M's arrays: their order in rnn.json, and the LSTM's two layouts.

The release's LSTM has one kernel (input + units, 4 units): rows of the input (z, action, in Doom restart) before
h, columns of the gates i, j (the candidate), f, o.
"""

import numpy as np

from world_models.tasks.task import Release

FORGET_BIAS = 1.0  # added to the gate f when the release's LSTM runs; Keras' bias holds it

# The order in which the release's graphs made M's variables (carracing/rnn/rnn.py, doomrnn/doomrnn.py).
HEAD_FIRST = ("output_w", "output_b", "lstm_kernel", "lstm_bias")
LSTM_FIRST = ("lstm_kernel", "lstm_bias", "output_w", "output_b")


def rnn_orders(release: Release) -> tuple[tuple[str, ...], ...]:
    """The orders in which a task's rnn.json may be: the release's own first."""
    return (HEAD_FIRST, LSTM_FIRST) if release.head_first else (LSTM_FIRST, HEAD_FIRST)


def to_keras(kernel, bias, inputs: int):
    """The release's LSTM as Keras has it.

    The release multiplies [x, h] by one kernel, splits the result into gates i, j, f, o and adds 1 to f
    (TensorFlow 1's LayerNormBasicLSTMCell, without its layer norm). Keras has a kernel for x and one for h,
    gates i, f, j, o, and the 1 in its bias.

    Args:
        kernel: (I + U, 4 U).
        bias: (4 U,).
        inputs: I.

    Returns:
        kernel (I, 4 U), recurrent kernel (U, 4 U), bias (4 U,).
    """
    i, j, f, o = np.split(kernel, 4, axis=1)
    kernel = np.concatenate([i, f, j, o], axis=1)
    i, j, f, o = np.split(bias, 4)
    return kernel[:inputs], kernel[inputs:], np.concatenate([i, f + FORGET_BIAS, j, o])


def to_release(kernel, recurrent, bias):
    """The inverse of `to_keras`: kernel (I + U, 4 U) and bias (4 U,), in the release's order of gates."""
    i, f, j, o = np.split(np.concatenate([kernel, recurrent]), 4, axis=1)
    kernel = np.concatenate([i, j, f, o], axis=1)
    i, f, j, o = np.split(np.asarray(bias, np.float64), 4)
    return kernel, np.concatenate([i, j, f - FORGET_BIAS, o])
