"""V, M and C together, as one compiled function over a batch of agents ("lanes")."""

import keras
import tensorflow as tf

from config import Config, UserError
from controller import policy
from rnn.model import MDNRNN
from vae.model import VAE, sample


def policy_size(config: Config) -> int:
    """Parameters of the run's C."""
    return policy.count(config.task, config.features, config.z_size, config.rnn_units)


def act(config: Config, params, z, c, h):
    """C's actions in TensorFlow: params (B, P), z (B, Z), c and h (B, U) -> (B, A)."""
    x = policy.observe(z, c, h, config.features, keras.ops)
    return policy.act(params, x, config.task, config.features, config.z_size, config.rnn_units, keras.ops)


def use_one_core() -> None:
    """One TensorFlow thread and no GPU for this process: ranks share the cores, sums keep their order, and each rank
    would claim the whole card for a batch that does not fill it."""
    try:
        if tf.config.get_visible_devices("GPU"):
            tf.config.set_visible_devices([], "GPU")
        if tf.config.threading.get_intra_op_parallelism_threads() != 1:
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise UserError(f"TensorFlow's threads and devices were fixed before: {error}") from None


def make_agent(config: Config, vae: VAE, rnn: MDNRNN, lanes: int):
    """The agents' step, compiled for a fixed number of lanes (B).

    Returns a function (frames uint8 (B, 64, 64, 3), noise (B, Z), params (B, P), fresh (B, 1), h, c (B, U))
    -> (action (B, A), h, c). `fresh` is 1 at an episode's first step: its state is zeroed before. As in the
    paper's pseudo-code, C acts on the state from before M has seen z; M then steps on (z, action).
    """
    shapes = dict(noise=config.z_size, params=policy_size(config), fresh=1, h=config.rnn_units, c=config.rnn_units)
    signature = [tf.TensorSpec((lanes, 64, 64, 3), tf.uint8)]
    signature += [tf.TensorSpec((lanes, size), tf.float32) for size in shapes.values()]

    def decide(mu, logvar, noise, params, fresh, h, c):
        h, c = h * (1 - fresh), c * (1 - fresh)
        z = sample(mu, logvar, noise)
        action = act(config, params, z, c, h)
        h, c = rnn.step(z, action, fresh, h, c)
        return action, h, c

    # XLA also makes a lane's numbers independent of its place in the batch, to the bit. But it computes
    # bfloat16 convolutions in float32; TensorFlow itself has oneDNN do them, so they stay outside.
    compiled = config.dtype == "float32"
    if not compiled:
        decide = tf.function(decide, autograph=False, jit_compile=True)

    @tf.function(input_signature=signature, autograph=False, jit_compile=compiled)
    def agent(frames, *rest):
        return decide(*vae.encode(frames), *rest)

    return agent
