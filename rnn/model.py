"""M: an LSTM with a mixture-density head that predicts the next z (paper A.2; rnn/rnn.py of the release).

CarRacing's has 256 units and 422,368 parameters. Doom's has 512, and a head for the end of the episode, which the
release calls restart: 1,678,785 parameters (doomrnn/rnn.py). A head for the reward is the paper's P(r | a, z, h)
(section 5), which neither of its experiments needed.
"""

import math

import keras
from tensorflow import Tensor

from rnn import lstm, mdn
from world_models.config import Config
from world_models.quiet import tf

State = tuple[Tensor, Tensor]  # h and c of the LSTM, each (B, U)
# Standard deviations of the reward beyond which M's error counts linearly: squared, one of -100 would outweigh a
# thousand of 3; but where it can be predicted it is learnt in full.
LINEAR = 5.0


class MDNRNN(keras.Model):
    """The recurrent mixture-density network.

    Args:
        config: sizes: dimensions of z (Z), LSTM units (U), Gaussians a dimension of z (K); heads, whose outputs stand
            before the mixture's, and the weights of their losses. With an "end" head M also sees whether its frame is
            an episode's first ("restart").
        action_size: numbers in an action (A).
        joined: whether it is trained on episodes end to end, so that states are zeroed inside a sequence.
    """

    def __init__(self, config: Config, action_size: int, joined: bool = False):
        super().__init__(name="rnn")
        self.z_size, self.action_size, self.units = config.z_size, action_size, config.rnn_units
        self.config, self.heads = config, config.rnn_heads
        inputs = self.z_size + action_size + ("end" in self.heads)
        # TensorFlow 1 drew input and recurrent weights as one matrix, by Glorot's rule for its shape.
        limit = math.sqrt(6 / (inputs + 5 * self.units))
        kernels = ("kernel_initializer", "recurrent_initializer")
        glorot = {name: keras.initializers.RandomUniform(-limit, limit) for name in kernels}
        self.cell = keras.layers.LSTMCell(self.units, **glorot, name="lstm")
        self.head = keras.layers.Dense(len(self.heads) + self.z_size * 3 * config.mixtures, name="output")
        self.cell.build((None, inputs))
        self.head.build((None, self.units))
        if "reward" in self.heads:
            self.reward_scale = self.add_weight(name="reward_scale", initializer="ones", trainable=False)
        # cuDNN's LSTM cannot zero a state inside a sequence.
        self.layer = lstm.Layer(self.cell) if tf.config.get_visible_devices("GPU") and not joined else None
        self.built = True

    def inputs(self, z: Tensor, action: Tensor, restart: Tensor) -> Tensor:
        """The LSTM's input: [z, action], and restart where M has an end head (doomrnn/rnn.py)."""
        return tf.concat([z, action, restart] if "end" in self.heads else [z, action], axis=-1)

    def masks(self, dropout: Tensor | None) -> tuple:
        """Dropout masks (B, 4, Z + U) of z and h for each of the LSTM's gates -> those of its input (B, 4, I) and of h
        (B, 4, U). The action and restart are never dropped. None: (None, None), no dropout."""
        if dropout is None:
            return None, None
        rest = self.cell.kernel.shape[0] - self.z_size
        of_z, of_h = tf.split(dropout, [self.z_size, self.units], axis=2)
        return tf.pad(of_z, ((0, 0), (0, 0), (0, rest)), constant_values=1.0), of_h

    def step(self, z: Tensor, action: Tensor, restart: Tensor, state: State, dropout: Tensor | None = None) -> State:
        """One step of B agents: z (B, Z), action (B, A), restart (B, 1), the state h and c (B, U) -> the next state,
        after it was zeroed where an episode starts. `dropout` as in `masks`."""
        h, c = (part * (1.0 - restart) for part in state)
        return lstm.step(self.cell, self.inputs(z, action, restart), h, c, self.masks(dropout))

    def unroll(
        self, z: Tensor, action: Tensor, restart: Tensor, state: State, dropout: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """`step` over whole sequences, time first: z (T, B, Z), action (T, B, A), restart (T, B, 1). A sequence keeps
        its dropout masks for all its steps.

        Returns the output after each step (T, B, heads + Z * 3 * K), and the last state.
        """
        inputs = self.inputs(z, action, restart)
        if self.layer is not None and dropout is None:  # cuDNN's LSTM has no dropout of h
            hs, h, c = self.layer.unroll(inputs, *state)
        else:
            hs, h, c = lstm.unroll(self.cell, inputs, *state, 1.0 - restart, self.masks(dropout))
        return self.head(hs), (h, c)

    def split(self, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Output (..., heads + Z * 3 * K) -> (logmix, mean, logstd), each (..., Z, K)."""
        return mdn.split(output[..., len(self.heads) :], self.z_size, self.config.mixtures)

    def end_logit(self, output: Tensor) -> Tensor:
        """Output -> the logit of "the episode ends with this step" (..., 1)."""
        column = self.heads.index("end")
        return output[..., column : column + 1]

    def reward(self, output: Tensor) -> Tensor:
        """Output -> the step's expected reward (..., 1), in the task's own units."""
        column = self.heads.index("reward")
        return output[..., column : column + 1] * self.reward_scale

    def losses(self, output: Tensor, z: Tensor, end: Tensor, reward: Tensor, valid: Tensor) -> dict[str, Tensor]:
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
            losses["r_loss"] = tf.reduce_mean(valid * entropy * (1 + (self.config.restart_weight - 1) * end))
        if "reward" in self.heads:
            error = (self.reward(output) - reward) / self.reward_scale
            size = tf.abs(error)
            cost = tf.where(size < LINEAR, error**2, LINEAR * (2 * size - LINEAR))
            weight = tf.where(error > 0, self.config.optimism_weight, 1.0)
            losses["reward_loss"] = tf.reduce_mean(valid * weight * cost)
        return {"loss": tf.add_n(list(losses.values())), **losses}
