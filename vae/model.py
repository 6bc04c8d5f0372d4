"""V: the convolutional variational autoencoder (paper A.1; vae/vae.py of the release).

A frame (64, 64, 3) becomes z of 32 numbers (CarRacing, 4,348,547 parameters) or 64 (Doom, 4,446,915).
"""

import keras
from keras.layers import Dense
from tensorflow import Tensor

from vae.layers import Down, Up
from world_models.quiet import tf


class VAE(keras.Model):
    """Encoder and decoder.

    Args:
        z_size: dimensions of z.
        dtype: "float32", or "bfloat16" for the encoder's convolutions (weights stay float32).
    """

    def __init__(self, z_size: int, dtype: str = "float32"):
        super().__init__(name="vae")
        self.z_size = z_size
        policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
        self.convolutions = [Down(f, dtype=policy, name=f"enc_conv{k + 1}") for k, f in enumerate((32, 64, 128, 256))]
        self.mu = Dense(z_size, name="enc_fc_mu")
        self.logvar = Dense(z_size, name="enc_fc_log_var")
        self.dense = Dense(1024, name="dec_fc")  # no activation, as in the release
        sizes = ((128, 5), (64, 5), (32, 6))
        self.transposed = [Up(*size, name=f"dec_deconv{k + 1}") for k, size in enumerate(sizes)]
        self.transposed.append(Up(3, 6, activation="sigmoid", name="dec_deconv4"))
        # Built layer by layer: a first call would have a rank that only acts compute a reconstruction.
        convolutional: list = [*self.convolutions, *self.transposed]
        for layer, channels in zip(convolutional, (3, 32, 64, 128, 1024, 128, 64, 32), strict=True):
            layer.build((None, None, None, channels))
        for layer, size in ((self.mu, 1024), (self.logvar, 1024), (self.dense, z_size)):
            layer.build((None, size))
        self.built = True

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, 64, 64, 3) -> (mu, logvar), each float32 (B, Z)."""
        x = tf.cast(frames, tf.float32) / 255
        for layer in self.convolutions:
            x = layer(x)
        x = tf.cast(tf.reshape(x, (-1, 1024)), tf.float32)
        return self.mu(x), self.logvar(x)

    def decode(self, z: Tensor) -> Tensor:
        """(B, Z) -> frames in 0..1, float32 (B, 64, 64, 3)."""
        x = tf.reshape(self.dense(z), (-1, 1, 1, 1024))
        for layer in self.transposed:
            x = layer(x)
        return x

    def call(self, frames: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction: (decode(z), mu, logvar) for z = mu + exp(logvar / 2) noise, noise (B, Z)."""
        mu, logvar = self.encode(frames)
        return self.decode(sample(mu, logvar, noise)), mu, logvar


def sample(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """z ~ N(mu, exp(logvar)), from noise ~ N(0, I); all (..., Z). The release samples when acting too."""
    return mu + tf.exp(logvar / 2.0) * noise


def losses(
    frames: Tensor, reconstruction: Tensor, mu: Tensor, logvar: Tensor, kl_tolerance: float
) -> tuple[Tensor, Tensor]:
    """(reconstruction loss, KL), scalars whose sum is V's loss (paper A.1; vae.py).

    The squared error is summed over a frame's pixels, the KL over z's dimensions and then floored for each
    frame at kl_tolerance a dimension; both are averaged over the batch.

    Args:
        frames: uint8 (B, 64, 64, 3).
        reconstruction: float (B, 64, 64, 3) in 0..1.
        mu, logvar: (B, Z).
    """
    error = tf.cast(frames, tf.float32) / 255 - reconstruction
    kl = -0.5 * tf.reduce_sum(1 + logvar - mu**2 - tf.exp(logvar), axis=1)
    floor = kl_tolerance * mu.shape[1]
    return tf.reduce_mean(tf.reduce_sum(error**2, axis=(1, 2, 3))), tf.reduce_mean(tf.maximum(kl, floor))
