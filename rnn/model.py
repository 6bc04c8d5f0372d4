"""M: an LSTM with a mixture-density head that predicts the next z (paper A.2; rnn/rnn.py of the release).

CarRacing's has 256 units and 422,368 parameters. Doom's has 512, and a head for the end of the episode, which the
release calls restart: 1,678,785 parameters (doomrnn/rnn.py). A head for the reward is the paper's P(r | a, z, h)
(section 5), which neither of its experiments needed.
"""

import math

import keras
import numpy as np

from rnn import lstm, mdn
from world_models.quiet import tf

HEADS = ("end", "reward")  # in the order of their outputs, which stand before the mixture's
# Standard deviations of the reward beyond which M's error counts linearly: squared, one of -100 would outweigh a
# thousand of 3; but where it can be predicted it is learnt in full.
LINEAR = 5.0


class MDNRNN(keras.Model):
    """The recurrent mixture-density network.

    Args:
        z_size: dimensions of z (Z).
        action_size: numbers in an action (A).
        units: LSTM units (U).
        mixtures: Gaussians a dimension of z (K).
        heads: of "end" and "reward". With "end" M also sees whether its frame is an episode's first ("restart").
        end_weight: weight of the frames after which an episode ends, in the loss of the end head.
        optimism_weight: weight of rewards that are predicted too high, in the loss of the reward head.
        joined: whether it is trained on episodes end to end, so that states are zeroed inside a sequence.
    """

    def __init__(
        self,
        z_size: int,
        action_size: int,
        units: int,
        mixtures: int,
        heads: tuple[str, ...] = (),
        end_weight: float = 10.0,
        optimism_weight: float = 1.0,
        joined: bool = False,
    ):
        super().__init__(name="rnn")
        self.z_size, self.action_size, self.units, self.mixtures = z_size, action_size, units, mixtures
        self.heads, self.end_weight, self.optimism_weight = heads, end_weight, optimism_weight
        inputs = z_size + action_size + ("end" in heads)
        # TensorFlow 1 drew input and recurrent weights as one matrix, by Glorot's rule for its shape.
        limit = math.sqrt(6 / (inputs + units + 4 * units))
        glorot = [keras.initializers.RandomUniform(-limit, limit) for _ in range(2)]
        self.cell = keras.layers.LSTMCell(
            units, kernel_initializer=glorot[0], recurrent_initializer=glorot[1], name="lstm"
        )
        self.head = keras.layers.Dense(3 * mixtures * z_size + len(heads), name="output")
        self.cell.build((None, inputs))
        self.head.build((None, units))
        if "reward" in heads:
            self.reward_scale = self.add_weight(name="reward_scale", initializer="ones", trainable=False)
        # cuDNN's LSTM cannot zero a state inside a sequence.
        self.layer = lstm.Layer(self.cell) if tf.config.get_visible_devices("GPU") and not joined else None
        self.built = True

    def initialize_from(self, other: "MDNRNN") -> None:
        """Takes the weights of an M of the same sizes that may have other heads; what it lacks starts at zero."""
        sizes = ("z_size", "action_size", "units", "mixtures")
        assert all(getattr(self, name) == getattr(other, name) for name in sizes)
        kernel, *rest = other.cell.get_weights()
        rows = np.zeros_like(self.cell.get_weights()[0])
        rows[: min(len(rows), len(kernel))] = kernel[: len(rows)]  # the last row is restart's, if there is one
        self.cell.set_weights([rows, *rest])
        columns = []
        for weight in other.head.get_weights():  # (U, outputs), (outputs,)
            mixture = weight[..., len(other.heads) :]
            own = [
                weight[..., other.heads.index(name)] if name in other.heads else np.zeros_like(mixture[..., 0])
                for name in self.heads
            ]
            columns.append(np.concatenate([np.stack(own, axis=-1), mixture], axis=-1) if own else mixture)
        self.head.set_weights(columns)
        if "reward" in self.heads and "reward" in other.heads:
            self.reward_scale.assign(other.reward_scale)

    def scale_rewards(self, scale: float, trained: bool = True) -> None:
        """Sets the unit of the reward head. One that was trained in another unit (an earlier round's) keeps what it
        predicts."""
        if trained:
            column = self.heads.index("reward")
            columns = self.head.get_weights()
            for weight in columns:
                weight[..., column] *= float(self.reward_scale) / scale
            self.head.set_weights(columns)
        self.reward_scale.assign(scale)

    def inputs(self, z: tf.Tensor, action: tf.Tensor, restart: tf.Tensor) -> tf.Tensor:
        """The LSTM's input: [z, action], and restart where M has an end head (doomrnn/rnn.py)."""
        return tf.concat([z, action, restart] if "end" in self.heads else [z, action], axis=-1)

    def masks(self, dropout: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Dropout masks (B, 4, Z + U) -> those of the LSTM's input (B, 4, I) and those of h (B, 4, U). The action and
        restart are never dropped."""
        of_z, of_h = dropout[..., : self.z_size], dropout[..., self.z_size :]
        rest = self.cell.kernel.shape[0] - self.z_size
        return tf.pad(of_z, ((0, 0), (0, 0), (0, rest)), constant_values=1.0), of_h

    def step(
        self,
        z: tf.Tensor,
        action: tf.Tensor,
        restart: tf.Tensor,
        h: tf.Tensor,
        c: tf.Tensor,
        dropout: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of B agents: z (B, Z), action (B, A), restart (B, 1), h and c (B, U) -> the next h, c. The state is
        zeroed where an episode starts.

        Args:
            dropout: (B, 4, Z + U), masks of z and h for each of the LSTM's gates; None: no dropout.
        """
        mask, inputs = 1.0 - restart, self.inputs(z, action, restart)
        if dropout is not None:
            return lstm.step(self.cell, inputs, h * mask, c * mask, self.masks(dropout))
        _, (h, c) = self.cell(inputs, [h * mask, c * mask])
        return h, c

    def unroll(
        self,
        z: tf.Tensor,
        action: tf.Tensor,
        restart: tf.Tensor,
        h: tf.Tensor,
        c: tf.Tensor,
        dropout: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Whole sequences, time first: z (T, B, Z), action (T, B, A), restart (T, B, 1), h and c (B, U). The state is
        zeroed where an episode starts. `dropout` is that of `step`: a sequence keeps its masks for all its steps.

        Returns the output after each step (T, B, heads + Z * 3 * K), and the last h and c.
        """
        inputs = self.inputs(z, action, restart)
        if dropout is not None:  # which cuDNN's LSTM does not have for h
            hs, h, c = lstm.unroll(self.cell, inputs, h, c, 1.0 - restart, self.masks(dropout))
        elif self.layer is not None:
            hs, h, c = self.layer.unroll(inputs, h, c)
        else:
            hs, h, c = lstm.unroll(self.cell, inputs, h, c, 1.0 - restart)
        return self.head(hs), h, c

    def split(self, output: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Output (..., heads + Z * 3 * K) -> (logmix, mean, logstd), each (..., Z, K)."""
        return mdn.split(output[..., len(self.heads) :], self.z_size, self.mixtures)

    def end_logit(self, output: tf.Tensor) -> tf.Tensor:
        """Output -> the logit of "the episode ends with this step" (..., 1)."""
        column = self.heads.index("end")
        return output[..., column : column + 1]

    def reward(self, output: tf.Tensor) -> tf.Tensor:
        """Output -> the step's expected reward (..., 1), in the task's own units."""
        column = self.heads.index("reward")
        return output[..., column : column + 1] * self.reward_scale

    def losses(
        self, output: tf.Tensor, z: tf.Tensor, end: tf.Tensor, reward: tf.Tensor, valid: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Losses by name; the first, "loss", is their sum, which is minimised.

        Args:
            output: (T, B, heads + Z * 3 * K).
            z: (T, B, Z), the z that came after each step.
            end: (T, B, 1), 1 where the episode ended with the step.
            reward: (T, B, 1), what the step earned.
            valid: (T, B, 1), 0 where the episode was over before the step: frames recorded after it teach z alone.
        """
        losses = {"z_loss": mdn.loss(z, *self.split(output))}
        if "end" in self.heads:
            entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=end, logits=self.end_logit(output))
            losses["r_loss"] = tf.reduce_mean(valid * entropy * (1 + (self.end_weight - 1) * end))
        if "reward" in self.heads:
            error = (self.reward(output) - reward) / self.reward_scale
            size = tf.abs(error)
            cost = tf.where(size < LINEAR, error**2, LINEAR * (2 * size - LINEAR))
            weight = tf.where(error > 0, self.optimism_weight, 1.0)
            losses["reward_loss"] = tf.reduce_mean(valid * weight * cost)
        return {"loss": tf.add_n(list(losses.values())), **losses}
