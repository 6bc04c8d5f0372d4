"""An LSTM over whole sequences, twice as fast on a CPU as Keras' layer, whose weights it uses.

What costs time there is not the arithmetic but its grain. The input's share of the gates is one matrix product for all
time steps, and so is the kernel's gradient; only what is truly recurrent, one product a step each way, stays in the
loop. On a GPU Keras' layer is cuDNN's, and `Layer` runs it.
"""

import keras
import tensorflow as tf
from tensorflow import Tensor


def _parts(kernel, masks):
    """A kernel (N, 4 U) -> the pairs (mask of the input, columns of the kernel): one for each gate with masks
    (B, 4, N), one for all without (None)."""
    if masks is None:
        return [(1.0, kernel)]
    return list(zip(tf.unstack(masks, axis=1), tf.split(kernel, 4, axis=1), strict=True))


def _product(x, parts):
    """x (..., B, N) times a kernel in parts -> (..., B, 4 U)."""
    return tf.concat([tf.tensordot(x * mask, kernel, 1) for mask, kernel in parts], axis=-1)


def _activate(gates, c):
    """Gates i, f, j, o (B, 4 U) and the state c (B, U) -> the next c and h."""
    i, f, j, o = tf.split(gates, 4, axis=1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(j)
    return c, tf.sigmoid(o) * tf.tanh(c)


_forward = tf.function(_activate, jit_compile=True)


@tf.function(jit_compile=True)
def _backward(gates, c, dc, dh):
    """The gradients of `_activate`: (d gates, d c) from those of the next c and h."""
    with tf.GradientTape() as tape:
        tape.watch((gates, c))
        following = _activate(gates, c)
    return tape.gradient(following, (gates, c), (dc, dh))


def _recurrence(masks, inputs, kernel, h, c, keep):
    """The recurrence, and its gradient, for `tf.custom_gradient`.

    Args:
        masks: (B, 4, U), dropout of h for each gate; None: no dropout. Not differentiated.
        inputs: (T, B, 4 U), the input's share of the gates in Keras' order i, f, j, o.
        kernel: (U, 4 U), the recurrent kernel.
        h, c: (B, U), the state before; not differentiated.
        keep: (T, B, 1), 0 where the state is zeroed before the step, else 1.

    Returns:
        h (T, B, U) after every step, and the last c (B, U).
    """
    steps, parts = tf.shape(inputs)[0], _parts(kernel, masks)

    def array(width):
        return tf.TensorArray(tf.float32, steps, element_shape=(inputs.shape[1], width))

    def step(t, h, c, gates, cs, hs):
        a = inputs[t] + _product(h * keep[t], parts)
        c, h = _forward(a, c * keep[t])
        return t + 1, h, c, gates.write(t, a), cs.write(t, c), hs.write(t, h)

    start = (0, h, c, array(inputs.shape[2]), array(h.shape[1]), array(h.shape[1]))
    _, _, last_c, *arrays = tf.while_loop(lambda t, *_: t < steps, step, start, parallel_iterations=1)
    gates, cs, hs = (array.stack() for array in arrays)

    def gradient(dhs, _):
        c_before, h_before = (tf.concat([x[None], xs[:-1]], axis=0) * keep for x, xs in ((c, cs), (h, hs)))
        transposed = [(mask, tf.transpose(columns)) for mask, columns in parts]

        def step(t, dh, dc, dgates):
            d, dc = _backward(gates[t], c_before[t], dc, dhs[t] + dh)
            of_parts = zip(tf.split(d, len(parts), axis=1), transposed, strict=True)
            dh = tf.add_n([(part @ rows) * mask for part, (mask, rows) in of_parts])
            return t - 1, dh * keep[t], dc * keep[t], dgates.write(t, d)

        start = (steps - 1, tf.zeros_like(h), tf.zeros_like(c), array(inputs.shape[2]))
        dgates = tf.while_loop(lambda t, *_: t >= 0, step, start, parallel_iterations=1)[3].stack()
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            product = _product(h_before, _parts(kernel, masks))
        return dgates, tape.gradient(product, kernel, dgates), None, None, None

    return (hs, last_c), gradient


def unroll(
    cell: keras.layers.LSTMCell, x: Tensor, h: Tensor, c: Tensor, keep: Tensor, dropout: tuple
) -> tuple[Tensor, Tensor, Tensor]:
    """Runs a built Keras LSTMCell over sequences.

    Args:
        cell: the cell.
        x: (T, B, I), inputs.
        h, c: (B, U), the state before the first step; no gradient flows into them.
        keep: (T, B, 1), 0 where the state is zeroed before the step, else 1.
        dropout: masks of x (B, 4, I) and of h (B, 4, U), one for each gate, the same at every step; or (None, None).

    Returns:
        h (T, B, U) after every step, and the last h and c (B, U).
    """
    of_x, of_h = dropout
    inputs = _product(x, _parts(cell.kernel.value, of_x)) + cell.bias.value
    hs, c = tf.custom_gradient(lambda *args: _recurrence(of_h, *args))(inputs, cell.recurrent_kernel.value, h, c, keep)
    return hs, hs[-1], c


def step(cell: keras.layers.LSTMCell, x: Tensor, h: Tensor, c: Tensor, dropout: tuple) -> tuple[Tensor, Tensor]:
    """One step of a Keras LSTMCell: x (B, I), h and c (B, U), `dropout` as in `unroll` -> the next h and c."""
    of_x, of_h = (_parts(kernel.value, masks) for kernel, masks in zip(cell.weights[:2], dropout, strict=True))
    c, h = _activate(_product(x, of_x) + _product(h, of_h) + cell.bias.value, c)
    return h, c


class Layer:
    """As `unroll` where no state is zeroed on the way, by Keras' LSTM layer: on a GPU one call of cuDNN.

    It is not a Keras layer, so the model that holds it does not count its weights twice: they are `cell`'s.
    """

    def __init__(self, cell: keras.layers.LSTMCell):
        self.layer = keras.layers.LSTM(cell.units, return_sequences=True, return_state=True)
        self.layer.cell = cell

    def unroll(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (T, B, I), h and c (B, U) -> h (T, B, U) after every step, and the last h and c."""
        hs, h, c = self.layer(tf.transpose(x, (1, 0, 2)), initial_state=[tf.stop_gradient(h), tf.stop_gradient(c)])
        return tf.transpose(hs, (1, 0, 2)), h, c
