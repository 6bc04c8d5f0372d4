"""An LSTM over whole sequences, with the backward pass written out.

What costs time on a CPU is not the arithmetic but its grain. Here the input's share of the gates is one
matrix product for all time steps, and so is the kernel's gradient; only what is truly recurrent, one product
a step each way, stays in the loop. Twice as fast as Keras' LSTM layer, whose weights it uses. On a GPU that layer is
cuDNN's, and `Layer` runs it.
"""

import keras
import tensorflow as tf


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


@tf.custom_gradient
def _unroll(inputs, kernel, h, c, mask):
    """The recurrence.

    Args:
        inputs: (T, B, 4 U), the input's share of the gates in Keras' order i, f, j, o.
        kernel: (U, 4 U), the recurrent kernel.
        h, c: (B, U), the state before; not differentiated.
        mask: (T, B, 1), 0 where the state is zeroed before the step, else 1.

    Returns:
        h (T, B, U) after every step, and the last c (B, U).
    """
    steps = tf.shape(inputs)[0]
    arrays = [tf.TensorArray(tf.float32, steps, element_shape=(inputs.shape[1], n * h.shape[1])) for n in (4, 1, 1)]

    def step(t, h, c, activations, cs, hs):
        gates = inputs[t] + (h * mask[t]) @ kernel
        a, c, h = _forward(gates, c, mask[t])
        return t + 1, h, c, activations.write(t, a), cs.write(t, c), hs.write(t, h)

    loop = tf.while_loop(lambda t, *_: t < steps, step, (0, h, c, *arrays), parallel_iterations=1)
    last_c = loop[2]
    activations, cs, hs = (array.stack() for array in loop[3:])

    def gradient(dhs, _):
        transposed = tf.transpose(kernel)
        c_before = tf.concat([c[None], cs[:-1]], axis=0)
        h_before = tf.concat([h[None], hs[:-1]], axis=0) * mask
        dgates = tf.TensorArray(tf.float32, steps, element_shape=(inputs.shape[1], 4 * h.shape[1]))

        def step(t, dh, dc, dgates):
            d, dc = _backward(activations[t], cs[t], c_before[t], mask[t], dhs[t] + dh, dc)
            return t - 1, (d @ transposed) * mask[t], dc, dgates.write(t, d)

        start = (steps - 1, tf.zeros_like(h), tf.zeros_like(c), dgates)
        dgates = tf.while_loop(lambda t, *_: t >= 0, step, start, parallel_iterations=1)[3].stack()
        units = h.shape[1]
        dkernel = tf.matmul(tf.reshape(h_before, (-1, units)), tf.reshape(dgates, (-1, 4 * units)), transpose_a=True)
        return dgates, dkernel, None, None, None

    return (hs, last_c), gradient


def unroll(cell, x, h, c, mask):
    """Runs a Keras LSTMCell over sequences.

    Args:
        cell: a built `keras.layers.LSTMCell`.
        x: (T, B, I), inputs.
        h, c: (B, U), the state before the first step; no gradient flows into them.
        mask: (T, B, 1), 0 where the state is zeroed before the step, else 1.

    Returns:
        h (T, B, U) after every step, and the last h and c (B, U).
    """
    steps, batch, size = x.shape
    gates = tf.reshape(x, (-1, size)) @ cell.kernel.value + cell.bias.value
    gates = tf.reshape(gates, (steps, batch, 4 * cell.units))
    hs, c = _unroll(gates, cell.recurrent_kernel.value, h, c, mask)
    return hs, hs[-1], c


class Layer:
    """As `unroll` where no state is zeroed on the way, by Keras' LSTM layer: on a GPU one call of cuDNN.

    Keras does not count it as a layer of the model that holds it, since it is none itself: its weights are `cell`'s.
    """

    def __init__(self, cell):
        self.layer = keras.layers.LSTM(cell.units, return_sequences=True, return_state=True)
        self.layer.cell = cell

    def unroll(self, x, h, c):
        """x (T, B, I), h and c (B, U) -> h (T, B, U) after every step, and the last h and c."""
        hs, h, c = self.layer(tf.transpose(x, (1, 0, 2)), initial_state=[tf.stop_gradient(h), tf.stop_gradient(c)])
        return tf.transpose(hs, (1, 0, 2)), h, c
