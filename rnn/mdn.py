"""The mixture density that M's output stands for: 5 Gaussians for each dimension of z (paper A.2; rnn/rnn.py).

An output of 15 numbers a dimension is split, in this order, into 5 logmix, 5 mean and 5 logstd.
"""

from typing import Any

import tensorflow as tf
from tensorflow import Tensor


def split(output: Tensor, z_size: int, mixtures: int) -> tuple[Tensor, Tensor, Tensor]:
    """(..., Z * 3 * K) -> logmix, mean, logstd, each (..., Z, K)."""
    shape = tf.concat([tf.shape(output)[:-1], [z_size, 3 * mixtures]], axis=0)
    output = tf.reshape(output, shape)
    logmix, mean, logstd = tf.split(output, 3, axis=-1)
    return logmix, mean, logstd


def mixture(logmix: Tensor, mean: Tensor, logstd: Tensor) -> Any:
    """The distribution of each dimension of z, TensorFlow Probability's MixtureSameFamily.

    Parameters (..., Z, K); events are scalar, the batch is (..., Z).
    """
    # here: training needs it, and a rank that acts need not carry its 100 MB
    from tensorflow_probability import distributions as tfd

    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=logmix), tfd.Normal(loc=mean, scale=tf.exp(logstd)), validate_args=False
    )


def loss(z: Tensor, logmix: Tensor, mean: Tensor, logstd: Tensor) -> Tensor:
    """Mean over batch, time and dimensions of -log p(z); z (..., Z). Negative where the density is above 1."""
    return -tf.reduce_mean(mixture(logmix, mean, logstd).log_prob(z))


def sample(logmix: Tensor, mean: Tensor, logstd: Tensor, tau: Tensor | float, uniform: Tensor, noise: Tensor) -> Tensor:
    """Draws z at temperature tau (paper 4; doomrnn/model.py: sample_z).

    logmix / tau is renormalised, a component drawn for each dimension, and its standard deviation multiplied
    by the square root of tau. The same distribution as `mixture` at tau = 1, drawn by hand because its
    randomness is the caller's.

    Args:
        logmix, mean, logstd: (..., Z, K).
        tau: scalar, or (..., 1).
        uniform: (..., Z), from U[0, 1): chooses the component.
        noise: (..., Z), from N(0, 1).
    """
    probability = tf.nn.softmax(logmix / tf.expand_dims(tau, -1), axis=-1)
    below = tf.cumsum(probability, axis=-1)[..., :-1]
    chosen = tf.reduce_sum(tf.cast(uniform[..., None] >= below, tf.int32), axis=-1)
    component = tf.one_hot(chosen, logmix.shape[-1], dtype=mean.dtype)
    mean = tf.reduce_sum(mean * component, axis=-1)
    logstd = tf.reduce_sum(logstd * component, axis=-1)
    return mean + tf.exp(logstd) * tf.sqrt(tau) * noise
