"""M: an LSTM with a mixture-density head that predicts the next z (paper A.2; rnn/rnn.py of the release).

CarRacing's has 256 units and 422,368 parameters. Doom's, with a head for death, is in doom_rnn/model.py.
"""

import math

import keras
import tensorflow as tf

from rnn import lstm, mdn


class MDNRNN(keras.Model):
    """The recurrent mixture-density network.

    Args:
        z_size: dimensions of z (Z).
        action_size: numbers in an action (A).
        units: LSTM units (U).
        mixtures: Gaussians a dimension of z (K).
    """

    flags = 0  # inputs beside z and action, and outputs before the mixture's; Doom's "restart" is one

    def __init__(self, z_size: int, action_size: int, units: int, mixtures: int):
        super().__init__(name="rnn")
        self.z_size, self.action_size, self.units, self.mixtures = z_size, action_size, units, mixtures
        inputs = z_size + action_size + self.flags
        # TensorFlow 1 drew input and recurrent weights as one matrix, by Glorot's rule for its shape.
        limit = math.sqrt(6 / (inputs + units + 4 * units))
        glorot = [keras.initializers.RandomUniform(-limit, limit) for _ in range(2)]
        self.cell = keras.layers.LSTMCell(
            units, kernel_initializer=glorot[0], recurrent_initializer=glorot[1], name="lstm"
        )
        self.head = keras.layers.Dense(3 * mixtures * z_size + self.flags, name="output")
        self.cell.build((None, inputs))
        self.head.build((None, units))
        # cuDNN's LSTM cannot zero a state on its way, as Doom's M needs it.
        self.layer = None
        if tf.config.get_visible_devices("GPU") and not self.flags:
            self.layer = lstm.Layer(self.cell)
        self.built = True

    def inputs(self, z, action, restart):
        """What the LSTM sees: [z, action]; `restart` is of no use to CarRacing."""
        return tf.concat([z, action], axis=-1)

    def keep(self, restart):
        """Factor (..., 1) on the state before a step: 1 here, 0 in Doom where an episode starts."""
        return tf.ones_like(restart)

    def step(self, z, action, restart, h, c):
        """One step of B agents: z (B, Z), action (B, A), restart (B, 1), h and c (B, U) -> the next h, c."""
        keep = self.keep(restart)
        _, (h, c) = self.cell(self.inputs(z, action, restart), [h * keep, c * keep])
        return h, c

    def unroll(self, z, action, restart, h, c):
        """Whole sequences, time first: z (T, B, Z), action (T, B, A), restart (T, B, 1), h and c (B, U).

        Returns the output after each step (T, B, flags + Z * 3 * K), and the last h and c.
        """
        inputs = self.inputs(z, action, restart)
        if self.layer is not None:
            hs, h, c = self.layer.unroll(inputs, h, c)
        else:
            hs, h, c = lstm.unroll(self.cell, inputs, h, c, self.keep(restart))
        return self.head(hs), h, c

    def split(self, output):
        """Output (..., flags + Z * 3 * K) -> (logmix, mean, logstd), each (..., Z, K)."""
        return mdn.split(output[..., self.flags :], self.z_size, self.mixtures)

    def losses(self, output, z, restart):
        """Losses by name, for the z (T, B, Z) and restart (T, B, 1) that came after each step; the first,
        "loss", is what is minimised."""
        z_loss = mdn.loss(z, *self.split(output))
        return {"loss": z_loss}
