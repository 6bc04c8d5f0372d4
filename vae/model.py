"""V: the convolutional variational autoencoder (paper A.1; vae/vae.py of the release).

A frame (64, 64, 3) becomes z of 32 numbers (CarRacing, 4,348,547 parameters) or 64 (Doom, 4,446,915).
"""

from typing import Any

import keras
from keras import layers

from world_models.quiet import tf


class Down(layers.Conv2D):
    """A convolution of kernel 4 and stride 2, done as one of kernel 2 and stride 1 on 2x2 blocks.

    The same sums with the same weights, in a shape whose gradients a CPU computes several times faster.
    """

    def __init__(self, filters: int, **options: Any):
        super().__init__(filters, 4, strides=2, activation="relu", **options)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """(B, S, S, C) -> (B, S // 2 - 1, S // 2 - 1, filters)."""
        if x.dtype == tf.bfloat16:
            return self._act(x)
        channels, even = x.shape[3], x.shape[1] // 2 * 2  # an odd last row or column is under no kernel
        blocks = tf.nn.space_to_depth(x[:, :even, :even], 2)
        kernel = tf.reshape(tf.cast(self.kernel, x.dtype), (2, 2, 2, 2, channels, self.filters))
        kernel = tf.reshape(tf.transpose(kernel, (0, 2, 1, 3, 4, 5)), (2, 2, 4 * channels, self.filters))
        y = tf.nn.conv2d(blocks, kernel, 1, "VALID")
        return self.activation(y + tf.cast(self.bias, x.dtype))

    def _act(self, x):
        """In bfloat16, which only acts, a plain convolution is faster, or a matrix product where few pixels are left.
        Current weights are baked into the graph: oneDNN lays out constants once, and not at every step."""
        with tf.init_scope():
            kernel, bias = (tf.cast(weights.numpy(), x.dtype).numpy() for weights in (self.kernel, self.bias))
        size = x.shape[1] // 2 - 1
        if size > 2:
            return self.activation(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 2, "VALID"), bias))
        corners = [(2 * row, 2 * column) for row in range(size) for column in range(size)]
        windows = tf.stack([x[:, row : row + 4, column : column + 4] for row, column in corners])
        y = tf.matmul(tf.reshape(windows, (-1, kernel[..., 0].size)), kernel.reshape(-1, self.filters))
        y = tf.transpose(tf.reshape(y, (size, size, -1, self.filters)), (2, 0, 1, 3))
        return self.activation(tf.nn.bias_add(y, bias))


class Up(layers.Conv2DTranspose):
    """A transposed convolution of stride 2, by whichever equal sum is fastest at its input's size.

    From one pixel it is a matrix product; from many, a convolution of kernel 3 and stride 1 whose channels
    are the four pixels of each 2x2 block of the output.
    """

    def __init__(self, filters: int, kernel_size: int, activation: str = "relu", **options: Any):
        super().__init__(filters, kernel_size, strides=2, activation=activation, **options)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """(B, S, S, C) -> (B, 2 S - 2 + k, 2 S - 2 + k, filters)."""
        size, channels, k = x.shape[1], x.shape[3], self.kernel_size[0]
        if size == 1:
            y = tf.matmul(tf.reshape(x, (-1, channels)), tf.reshape(self.kernel, (-1, channels)), transpose_b=True)
            return self.activation(tf.reshape(y, (-1, k, k, self.filters)) + self.bias)
        if size < 10:
            return super().call(x)
        kernel = tf.pad(self.kernel, [[0, 6 - k], [0, 6 - k], [0, 0], [0, 0]])
        kernel = tf.reshape(kernel, (3, 2, 3, 2, self.filters, channels))[::-1, :, ::-1]
        kernel = tf.reshape(tf.transpose(kernel, (0, 2, 5, 1, 3, 4)), (3, 3, channels, 4 * self.filters))
        padded = tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]])
        y = tf.nn.depth_to_space(tf.nn.conv2d(padded, kernel, 1, "VALID"), 2)
        out = 2 * size - 2 + k
        return self.activation(y[:, :out, :out] + self.bias)


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
        self.mu = layers.Dense(z_size, name="enc_fc_mu")
        self.logvar = layers.Dense(z_size, name="enc_fc_log_var")
        self.dense = layers.Dense(1024, name="dec_fc")  # no activation, as in the release
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

    def encode(self, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """uint8 (B, 64, 64, 3) -> (mu, logvar), each float32 (B, Z)."""
        x = tf.cast(frames, tf.float32) / 255
        for layer in self.convolutions:
            x = layer(x)
        x = tf.cast(tf.reshape(x, (-1, 1024)), tf.float32)
        return self.mu(x), self.logvar(x)

    def decode(self, z: tf.Tensor) -> tf.Tensor:
        """(B, Z) -> frames in 0..1, float32 (B, 64, 64, 3)."""
        x = tf.reshape(self.dense(z), (-1, 1, 1, 1024))
        for layer in self.transposed:
            x = layer(x)
        return x

    def call(self, frames: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Reconstruction: (decode(z), mu, logvar) for z = mu + exp(logvar / 2) noise, noise (B, Z)."""
        mu, logvar = self.encode(frames)
        return self.decode(sample(mu, logvar, noise)), mu, logvar


def sample(mu: tf.Tensor, logvar: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """z ~ N(mu, exp(logvar)), from noise ~ N(0, I); all (..., Z). The release samples when acting too."""
    return mu + tf.exp(logvar / 2.0) * noise


def losses(
    frames: tf.Tensor,
    reconstruction: tf.Tensor,
    mu: tf.Tensor,
    logvar: tf.Tensor,
    kl_tolerance: float,
    weight: tf.Tensor | float = 1.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """(reconstruction loss, KL), scalars whose sum is V's loss (paper A.1; vae.py).

    The squared error is summed over a frame's pixels, the KL over z's dimensions and then floored for each
    frame at kl_tolerance a dimension; both are averaged over the batch.

    Args:
        frames: uint8 (B, 64, 64, 3).
        reconstruction: float (B, 64, 64, 3) in 0..1.
        mu, logvar: (B, Z).
        weight: of each pixel's error, (B, 64, 64, 1) or a number.
    """
    error = tf.cast(frames, tf.float32) / 255 - reconstruction
    kl = -0.5 * tf.reduce_sum(1 + logvar - mu**2 - tf.exp(logvar), axis=1)
    floor = kl_tolerance * mu.shape[1]
    return tf.reduce_mean(tf.reduce_sum(weight * error**2, axis=(1, 2, 3))), tf.reduce_mean(tf.maximum(kl, floor))
