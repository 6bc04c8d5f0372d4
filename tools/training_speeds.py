"""The speeds of V's and M's training, and of the arithmetic that bounds them."""

import math

import numpy as np

from tools.speeds import median_rate
from world_models import tasks
from world_models.training import hold_memory


def vae_products(vae) -> int:
    """Multiplications of V's forward pass of one frame: each kernel's weights, at every place where it is applied."""
    size, count = 64, 0
    for layer in vae.convolutions:
        size = size // 2 - 1
        count += math.prod(layer.kernel.shape) * size**2
    count += sum(math.prod(layer.kernel.shape) for layer in (vae.mu, vae.logvar, vae.dense))
    size = 1
    for layer in vae.transposed:
        count += math.prod(layer.kernel.shape) * size**2
        size = 2 * size - 2 + layer.kernel_size[0]
    return count


def rnn_products(rnn) -> int:
    """Multiplications of M's forward pass of one time step of one sequence."""
    return sum(math.prod(weights.shape) for weights in rnn.trainable_variables if len(weights.shape) == 2)


def training_speeds() -> dict[str, float]:
    """Frames a second of V's training and time steps ("tokens") a second of M's, with all cores.

    And, as what bounds them, the floating-point operations of both, and of the product of two large matrices. A step
    of training has three times the products of a forward pass: its own, and the gradients to inputs and to weights.
    """
    import tensorflow as tf

    from rnn.train import make_step as rnn_step
    from vae.train import make_step as vae_step
    from world_models.training import make_optimizer
    from world_models.world_model import make_rnn, make_vae

    hold_memory()
    config = tasks.preset("carracing", "paper")
    rng = np.random.default_rng(0)
    number = tf.constant(0, tf.int64)

    vae = make_vae(config)
    step = vae_step(vae, make_optimizer(config.vae_rate, vae.trainable_variables), config)
    frames = tf.constant(rng.integers(0, 256, (config.vae_batch, 64, 64, 3)).astype(np.uint8))

    def fit_vae() -> int:
        for _ in range(5):
            float(step(number, frames)["vae_loss"])
        return 5 * config.vae_batch

    rnn = make_rnn(config)
    state = [tf.Variable(tf.zeros((config.rnn_batch, config.rnn_units)), trainable=False) for _ in range(2)]
    rnn_fit = rnn_step(rnn, make_optimizer(config.rnn_rate, rnn.trainable_variables), state, config)
    shape = (config.rnn_length + 1, config.rnn_batch)
    mu, logvar = (tf.constant(rng.standard_normal((*shape, config.z_size)), tf.float16) for _ in range(2))
    action = tf.constant(rng.standard_normal((*shape, 3)), tf.float32)
    restart = tf.zeros((*shape, 1))

    def fit_rnn() -> int:
        float(rnn_fit(number, True, mu, logvar, action, *[restart] * 4)["loss"])
        return config.rnn_batch * config.rnn_length

    size = 2048
    square = tf.random.stateless_normal((size, size), (0, 0))
    multiply = tf.function(lambda: tf.matmul(square, square))

    def product() -> int:
        multiply().numpy()
        return 2 * size**3

    frames_per_s, tokens_per_s = median_rate(fit_vae), median_rate(fit_rnn, 3)
    return {
        "vae_frames_per_s": frames_per_s,
        "rnn_tokens_per_s": tokens_per_s,
        "vae_flops": 6 * vae_products(vae) * frames_per_s,
        "rnn_flops": 6 * rnn_products(rnn) * tokens_per_s,
        "matmul_flops": median_rate(product),
    }
