"""M with a restart head, as Doom has it to predict death (paper A.2; doomrnn/rnn.py). 1,678,785 parameters."""

import tensorflow as tf

from rnn.model import MDNRNN


class RestartMDNRNN(MDNRNN):
    """M with a further input, whether the frame starts an episode, and a prediction of whether the next one does.

    Args:
        z_size, action_size, units, mixtures: as in MDNRNN.
        restart_weight: weight of the frames that follow a death, in the loss of the restart head.
    """

    flags = 1

    def __init__(self, z_size: int, action_size: int, units: int, mixtures: int, restart_weight: float = 10.0):
        super().__init__(z_size, action_size, units, mixtures)
        self.restart_weight = restart_weight

    def inputs(self, z, action, restart):
        return tf.concat([z, action, restart], axis=-1)

    def state_mask(self, restart):
        return 1.0 - restart

    def restart_logit(self, output):
        """Output (..., 1 + Z * 3 * K) -> the logit of "the next frame is another episode's first" (..., 1)."""
        return output[..., :1]

    def losses(self, output, z, restart):
        z_loss = super().losses(output, z, restart)["loss"]
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=restart, logits=self.restart_logit(output))
        r_loss = tf.reduce_mean(entropy * (1 + (self.restart_weight - 1) * restart))
        return {"loss": z_loss + r_loss, "z_loss": z_loss, "r_loss": r_loss}
