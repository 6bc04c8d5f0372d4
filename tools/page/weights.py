"""Arrays as text that a page carries within itself, since a page opened from a file may read no other file.

float16 arrays stand end to end, first all their high bytes, then all their low ones, which deflate likes better;
then the uint8 arrays. The whole is deflated and written in base 85: 5 characters for 4 bytes, where base 64 needs
a sixteenth more. static/model.js reads it.
"""

import base64
import zlib

import numpy as np


def pack(arrays: dict[str, np.ndarray]) -> dict:
    """Arrays as text.

    Args:
        arrays: by name; uint8 ones are kept as they are, all others in float16.

    Returns:
        "arrays": a table of [name, shape, "f2" or "u1"], in the order in which they stand; "text": the deflated
        bytes, in characters that need no escape; "bytes": how many they are.
    """
    halves = {name: value for name, value in arrays.items() if value.dtype != np.uint8}
    bytes_ = {name: value for name, value in arrays.items() if value.dtype == np.uint8}
    table = [[name, list(value.shape), "f2"] for name, value in halves.items()]
    table += [[name, list(value.shape), "u1"] for name, value in bytes_.items()]
    flat = np.concatenate([np.ravel(value) for value in halves.values()]).astype("<f2").view(np.uint8).reshape(-1, 2)
    raw = flat[:, 1].tobytes() + flat[:, 0].tobytes() + b"".join(value.tobytes() for value in bytes_.values())
    packed = zlib.compress(raw, 9)
    return {"arrays": table, "text": base64.b85encode(packed, pad=True).decode(), "bytes": len(packed)}


def decoder(vae) -> dict[str, np.ndarray]:
    """V's decoder, with its dense layer, which has no activation, folded into the first transposed convolution.

    Returns:
        "v0", (Z, 5 * 5 * 128), and the kernels "v1" .. "v3", (rows, inputs, columns * outputs), each with its bias
        "v0b" ..: a row of a kernel is what one input adds to one row of the output, in the picture's own order.
    """
    dense, dense_bias = values(vae.dense)
    first, first_bias = values(vae.transposed[0])
    unfolded = first.reshape(-1, first.shape[3]).T  # (1024, 5 * 5 * 128)
    pixels = first.shape[0] * first.shape[1]
    arrays = {"v0": dense @ unfolded, "v0b": dense_bias @ unfolded + np.tile(first_bias, pixels)}
    for number, layer in enumerate(vae.transposed[1:], 1):
        kernel, bias = values(layer)  # (rows, columns, outputs, inputs)
        rows, columns, outputs, inputs = kernel.shape
        arrays[f"v{number}"] = kernel.transpose(0, 3, 1, 2).reshape(rows, inputs, columns * outputs)
        arrays[f"v{number}b"] = bias
    return arrays


def memory(rnn) -> dict[str, np.ndarray]:
    """M: the LSTM's "kernel" (inputs, 4 U), "recurrent" (U, 4 U), "bias" (gates i, f, c, o), the head's "head"
    (U, outputs) and "headb".

    What float16 leaves of the bias is "bias_rest", which the page adds again: a bias has the same error at every step,
    and makes half of the state's, for a thousandth of the weights.
    """
    kernel, recurrent, bias = values(rnn.cell)
    head, head_bias = values(rnn.head)
    arrays = {"kernel": kernel, "recurrent": recurrent, "bias": bias, "head": head, "headb": head_bias}
    return arrays | {"bias_rest": bias - bias.astype(np.float16)}


def values(layer) -> list[np.ndarray]:
    return [variable.numpy() for variable in layer.weights]
