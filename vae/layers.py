"""V's convolutions: the sums of Keras' layers, with their weights, in shapes that a CPU computes faster."""

from typing import Any

from keras import layers
from tensorflow import Tensor

from world_models.quiet import tf


class Down(layers.Conv2D):
    """A convolution of kernel 4 and stride 2, done as one of kernel 2 and stride 1 on 2x2 blocks.

    The same sums with the same weights, in a shape whose gradients a CPU computes several times faster.
    """

    def __init__(self, filters: int, **options: Any):
        super().__init__(filters, 4, strides=2, activation="relu", **options)

    def call(self, x: Tensor) -> Tensor:
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

    def call(self, x: Tensor) -> Tensor:
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
