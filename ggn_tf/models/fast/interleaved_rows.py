"""Longer rows for convolutions on small grids.

A processor fills its vector registers with several voxels of a row; rows of 4 voxels leave most of them empty. A
convolution whose taps are k voxels apart along the rows convolves k interleaved maps without mixing them, and its rows
are k times as long.
"""

import functools

import tensorflow as tf

_SHORT = 4
_SAMPLES = 4


@functools.cache
def dilates_natively(dtype: str) -> bool:
    """Whether convolutions support a dilation: on processors oneDNN's do, TensorFlow's own do not.

    False where there is a GPU, which does not need longer rows.

    Args:
        dtype: Type of the maps; on processors without AVX-512, oneDNN supports float32 only.
    """
    if tf.config.list_physical_devices("GPU"):
        return False
    with tf.init_scope():
        row, kernel = tf.zeros([1, 1, 1, 3, 1], dtype), tf.zeros([1, 1, 3, 1, 1], dtype)
        try:
            tf.nn.conv3d(row, kernel, strides=[1] * 5, padding="SAME", dilations=[1, 1, 1, 2, 1])
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


def has_short_rows(x: tf.Tensor) -> bool:
    """Whether `convolve_short_rows` applies to a map [N, D, H, W, C] on this machine."""
    return None not in x.shape[1:] and 1 < x.shape[3] <= _SHORT and dilates_natively(x.dtype.name)


def convolve_short_rows(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """A 'same' convolution of stride and dilation 1, with the rows of 4 samples interleaved.

    The batch is padded with zeros to a multiple of 4, so this does not pay for single samples.

    Args:
        x: [N, D, H, W, C] with known D, H, W.
        kernel: [kD, kH, kW, C, F] in the type of `x`.

    Returns:
        [N, D, H, W, F].
    """
    depth, height, width, channels = x.shape[1:]
    count = tf.shape(x)[0]
    x = tf.pad(x, [[0, -count % _SAMPLES], *[[0, 0]] * 4])
    x = tf.transpose(tf.reshape(x, [-1, _SAMPLES, depth, height, width, channels]), [0, 2, 3, 4, 1, 5])
    rows = tf.reshape(x, [-1, depth, height, width * _SAMPLES, channels])
    rows = tf.nn.conv3d(rows, kernel, strides=[1] * 5, padding="SAME", dilations=[1, 1, 1, _SAMPLES, 1])
    rows = tf.reshape(rows, [-1, depth, height, width, _SAMPLES, kernel.shape[-1]])
    result = tf.reshape(tf.transpose(rows, [0, 4, 1, 2, 3, 5]), [-1, depth, height, width, kernel.shape[-1]])
    return result[:count]
