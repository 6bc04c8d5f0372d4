"""An LSTM over whole sequences, with the backward pass written out.

What costs time on a CPU is not the arithmetic but its grain. Here the input's share of the gates is one
matrix product for all time steps, and so is the kernel's gradient; only what is truly recurrent, one product
a step each way, stays in the loop. Twice as fast as Keras' LSTM layer, whose weights it uses. On a GPU that layer is
cuDNN's, and `Layer` runs it.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def dropout_mask(uniform: Any, rate: float, where: Callable = np.where) -> Any:
    """A dropout mask: 0 where `uniform` (any shape, from U[0, 1)) is below `rate`, else 1 / (1 - rate), in float32.

    `where` is NumPy's, or `tf.where` for a tensor. The mean of a mask is 1, so that M needs no scaling without one.
    """
    return where(uniform >= rate, np.float32(1 / (1 - rate)), np.float32(0))


def _rows(x):
    """x (T, B, N) as (T * B, N); x (B, N) as it is."""
    return x if len(x.shape) == 2 else tf.reshape(x, (-1, x.shape[-1]))


def _products(kernel, masks):
    """Functions that multiply by a kernel (N, 4 U). With masks (B, 4, N) each of the four gates has x times a mask of
    its own; without (None) all have x.

    Returns:
        forward: x (B, N) or (T, B, N) -> the gates' rows (B, 4 U) or (T * B, 4 U).
        back: d gates (B, 4 U) -> d x (B, N).
        of_kernel: x (T, B, N), d gates (T, B, 4 U) -> d kernel.
    """
    if masks is None:
        transposed = tf.transpose(kernel)
        return (
            lambda x: _rows(x) @ kernel,
            lambda d: d @ transposed,
            lambda x, d: tf.matmul(_rows(x), _rows(d), transpose_a=True),
        )
    masks, kernels = tf.unstack(masks, axis=1), tf.split(kernel, 4, axis=1)
    gates = list(zip(masks, kernels, map(tf.transpose, kernels), strict=True))

    def of_kernel(x, d):
        parts = zip(masks, tf.split(d, 4, axis=2), strict=True)
        return tf.concat([tf.matmul(_rows(x * mask), _rows(part), transpose_a=True) for mask, part in parts], axis=1)

    return (
        lambda x: tf.concat([_rows(x * mask) @ part for mask, part, _ in gates], axis=1),
        lambda d: tf.add_n(
            [(d @ back) * mask for d, (mask, _, back) in zip(tf.split(d, 4, axis=1), gates, strict=True)]
        ),
        of_kernel,
    )


@tf.function(jit_compile=True)
def _forward(gates, c, mask):
    """One step's gates -> (activations i, f, j, o; c; h); c (B, U) from before, zeroed where mask is 0."""
    i, f, j, o = tf.split(gates, 4, axis=1)
    i, f, j, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(j), tf.sigmoid(o)
    c = f * (c * mask) + i * j
    return tf.concat([i, f, j, o], axis=1), c, o * tf.tanh(c)


@tf.function(jit_compile=True)
def _backward(activations, c, c_before, mask, dh, dc):
    """The step's gradients: (d gates, d c before the step)."""
    i, f, j, o = tf.split(activations, 4, axis=1)
    t = tf.tanh(c)
    dc = dc + dh * o * (1 - t * t)
    dgates = tf.concat(
        [dc * j * i * (1 - i), dc * c_before * mask * f * (1 - f), dc * i * (1 - j * j), dh * t * o * (1 - o)], axis=1
    )
    return dgates, dc * f * mask


def _recurrence(masks, inputs, kernel, h, c, mask):
    """The recurrence, and its gradient, for `tf.custom_gradient`.

    Args:
        masks: (B, 4, U), dropout of h for each gate, the same at every step; None: no dropout. Not differentiated.
        inputs: (T, B, 4 U), the input's share of the gates in Keras' order i, f, j, o.
        kernel: (U, 4 U), the recurrent kernel.
        h, c: (B, U), the state before; not differentiated.
        mask: (T, B, 1), 0 where the state is zeroed before the step, else 1.

    Returns:
        h (T, B, U) after every step, and the last c (B, U).
    """
    steps = tf.shape(inputs)[0]
    forward, back, of_kernel = _products(kernel, masks)
    arrays = [tf.TensorArray(tf.float32, steps, element_shape=(inputs.shape[1], n * h.shape[1])) for n in (4, 1, 1)]

    def step(t, h, c, activations, cs, hs):
        gates = inputs[t] + forward(h * mask[t])
        a, c, h = _forward(gates, c, mask[t])
        return t + 1, h, c, activations.write(t, a), cs.write(t, c), hs.write(t, h)

    loop = tf.while_loop(lambda t, *_: t < steps, step, (0, h, c, *arrays), parallel_iterations=1)
    last_c = loop[2]
    activations, cs, hs = (array.stack() for array in loop[3:])

    def gradient(dhs, _):
        c_before = tf.concat([c[None], cs[:-1]], axis=0)
        h_before = tf.concat([h[None], hs[:-1]], axis=0) * mask
        dgates = tf.TensorArray(tf.float32, steps, element_shape=(inputs.shape[1], 4 * h.shape[1]))

        def step(t, dh, dc, dgates):
            d, dc = _backward(activations[t], cs[t], c_before[t], mask[t], dhs[t] + dh, dc)
            return t - 1, back(d) * mask[t], dc, dgates.write(t, d)

        start = (steps - 1, tf.zeros_like(h), tf.zeros_like(c), dgates)
        dgates = tf.while_loop(lambda t, *_: t >= 0, step, start, parallel_iterations=1)[3].stack()
        return dgates, of_kernel(h_before, dgates), None, None, None

    return (hs, last_c), gradient


def unroll(
    cell: keras.layers.LSTMCell,
    x: tf.Tensor,
    h: tf.Tensor,
    c: tf.Tensor,
    mask: tf.Tensor,
    dropout: tuple = (None, None),
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs a Keras LSTMCell over sequences.

    Args:
        cell: a built `keras.layers.LSTMCell`.
        x: (T, B, I), inputs.
        h, c: (B, U), the state before the first step; no gradient flows into them.
        mask: (T, B, 1), 0 where the state is zeroed before the step, else 1.
        dropout: masks of x (B, 4, I) and of h (B, 4, U), one for each gate, the same at every step; or None.

    Returns:
        h (T, B, U) after every step, and the last h and c (B, U).
    """
    steps, batch, _ = x.shape
    of_x, of_h = dropout
    gates = _products(cell.kernel.value, of_x)[0](x) + cell.bias.value
    gates = tf.reshape(gates, (steps, batch, 4 * cell.units))
    hs, c = tf.custom_gradient(lambda *args: _recurrence(of_h, *args))(gates, cell.recurrent_kernel.value, h, c, mask)
    return hs, hs[-1], c


def step(
    cell: keras.layers.LSTMCell, x: tf.Tensor, h: tf.Tensor, c: tf.Tensor, dropout: tuple
) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of a Keras LSTMCell with dropout: x (B, I), h and c (B, U), `dropout` as of `unroll` -> h and c."""
    of_x, of_h = (_products(kernel.value, masks)[0] for kernel, masks in zip(cell.weights[:2], dropout, strict=True))
    _, c, h = _forward(of_x(x) + of_h(h) + cell.bias.value, c, tf.ones_like(c[:, :1]))
    return h, c


class Layer:
    """As `unroll` where no state is zeroed on the way, by Keras' LSTM layer: on a GPU one call of cuDNN.

    Keras does not count it as a layer of the model that holds it, since it is none itself: its weights are `cell`'s.
    """

    def __init__(self, cell: keras.layers.LSTMCell):
        self.layer = keras.layers.LSTM(cell.units, return_sequences=True, return_state=True)
        self.layer.cell = cell

    def unroll(self, x: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """x (T, B, I), h and c (B, U) -> h (T, B, U) after every step, and the last h and c."""
        hs, h, c = self.layer(tf.transpose(x, (1, 0, 2)), initial_state=[tf.stop_gradient(h), tf.stop_gradient(c)])
        return tf.transpose(hs, (1, 0, 2)), h, c
