"""Convolutions that leave out work for special maps: short rows, a single channel, an up-sampled map.

Rows: a processor fills its vector registers with several voxels of a row; rows of 4 voxels leave most of them empty. A
convolution whose taps are k voxels apart along the rows convolves k interleaved maps without mixing them, and its rows
are k times as long.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from ggn_tf.models.fast.space_to_batch import plain_grid

# Elements of the matrix that a transposed convolution computes for a batch; with fewer it is slow.
_FAST_COLUMNS = 7_000_000
_SHORT = 4
_SAMPLES = 4


@functools.cache
def dilates_natively(dtype: str) -> bool:
    """Whether convolutions support a dilation: on processors oneDNN's do, TensorFlow's own do not.

    False where there is a GPU, which does not need longer rows. On processors without AVX-512, oneDNN supports float32
    only.
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

    The batch is padded with zeros to a multiple of 4, so this does not pay for single samples. The map is [N, D, H, W,
    C] with known D, H, W; the kernel [kD, kH, kW, C, F] in its type; the result [N, D, H, W, F].
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


# Block of voxels (z, y, x) whose gradients are computed as channels of one voxel: as many as fit a vector register.
_BLOCK = (4, 2, 2)


def is_single_channel(shape: Sequence[int | None], kernel: Sequence[int], dilation: Sequence[int]) -> bool:
    """Whether `convolve_single_channel` applies to a map and a kernel of these shapes."""
    grid = shape[1:4]
    blocks = all(extent is not None and extent % block == 0 for extent, block in zip(grid, _BLOCK, strict=True))
    return blocks and shape[4] == 1 and tuple(kernel[:3]) == (3, 3, 3) and tuple(dilation) == (1, 1, 1)


@tf.custom_gradient
def convolve_single_channel(
    x: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """A 'same' convolution of a map with one channel, whose gradient with respect to the map is computed in blocks.

    That gradient is a convolution with one output channel, which uses one of 16 elements of a processor's vector
    registers. So blocks of 4 x 2 x 2 voxels become 16 channels. With block b and voxel p in it along an axis, the
    gradient at voxel f = b v + p is sum_j w_j g(f + 1 - j): it reads g at b v - 1 + k with tap j = p + 2 - k, k = 0 ..
    b + 1. That is a convolution of stride b with b + 2 taps, the same for every block.

    The map is [N, D, H, W, 1] (see `is_single_channel`), the kernel [3, 3, 3, 1, F] in its type, the result [N, D, H,
    W, F].
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for_kernel = tf.raw_ops.Conv3DBackpropFilterV2(
            input=x, filter_sizes=kernel.shape, out_backprop=upstream, strides=[1] * 5, padding="SAME"
        )
        return _gradient_in_blocks(upstream, kernel), for_kernel

    return tf.nn.conv3d(x, kernel, strides=[1] * 5, padding="SAME"), gradient


def _gradient_in_blocks(upstream: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    depth, height, width, filters = upstream.shape[1:]
    taps = [block + 2 for block in _BLOCK]
    arranged = tf.matmul(tf.constant(_arrangement(), kernel.dtype), tf.reshape(kernel, [27, filters]))
    arranged = tf.transpose(tf.reshape(arranged, [*taps, -1, filters]), [0, 1, 2, 4, 3])
    blocks = tf.nn.conv3d(upstream, arranged, strides=[1, *_BLOCK, 1], padding="SAME")
    grid = [extent // block for extent, block in zip((depth, height, width), _BLOCK, strict=True)]
    voxels = tf.transpose(tf.reshape(blocks, [-1, *grid, *_BLOCK]), [0, 1, 4, 2, 5, 3, 6])
    return tf.reshape(voxels, [-1, depth, height, width, 1])


def _arrangement() -> np.ndarray:
    """Which of the 27 taps (columns) is at each tap and each voxel of the block (rows); 0 or 1."""
    axes = []
    for block in _BLOCK:
        k, p, j = np.ogrid[: block + 2, :block, :3]
        axes.append((j == p + 2 - k).astype("float32"))
    return np.einsum("kpa,lqb,mrc->klmpqrabc", *axes).reshape(-1, 27)


def convolve_upsampled(coarse: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Up-sample [N, D, H, W, C] by 2 and convolve 'same' with [3, 3, 3, C, F], dilation 1: [N, 2D, 2H, 2W, F].

    Nearest up-sampling puts coarse voxel c at fine voxels 2c and 2c + 1. It is zero insertion (c at 2c, zeros between)
    followed by the sum of each voxel and its predecessor, along each axis. Convolution and that sum commute, so

        conv(up(x)) = sum(conv(insert zeros(x)))

    and the convolution of a map with zeros between is a transposed convolution of stride 2: 27 taps per coarse voxel,
    where the up-sampled map would take 27 per fine voxel, 8 times as many. Its result runs from fine voxel -1, the
    first predecessor, to 2D - 1. The sum over 2^3 voxels is 8 times an average pooling.
    """
    channels, filters = kernel.shape[3:]
    # A convolution reads voxel f + j - 1 with tap j, a transposed one gives to it: the taps in reverse order.
    giving = tf.transpose(tf.reverse(tf.reshape(8 * kernel, [27, channels, filters]), axis=[0]), [0, 2, 1])
    giving = tf.reshape(giving, [3, 3, 3, filters, channels])
    summands = _transposed(coarse, tf.cast(giving, coarse.dtype))
    return tf.nn.avg_pool3d(summands, 2, strides=1, padding="VALID")


def _transposed(coarse: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """A transposed convolution of stride 2: [N, D, H, W, C] and [3, 3, 3, F, C] give [N, 2D + 1, 2H + 1, 2W + 1, F].

    TensorFlow's own kernel takes some 30 times as long per sample for small batches, but not for a single sample. So
    the samples of such a batch follow each other along D, with a coarse voxel of zeros between.
    """
    filters, channels = kernel.shape[3:]
    batch, depth, *plane = tf.unstack(tf.shape(coarse)[:4])
    columns = tf.cast(27 * filters * depth * plane[0] * plane[1], tf.int64) * tf.cast(batch, tf.int64)
    few = (batch > 1) & (columns < _FAST_COLUMNS)
    between, samples, groups = tf.cast(few, tf.int32), tf.where(few, batch, 1), tf.where(few, 1, batch)
    lines = tf.pad(coarse, [[0, 0], [0, between], *[[0, 0]] * 3])
    lines = tf.reshape(lines, [groups, samples * (depth + between), *plane, channels])
    extents = [2 * extent + 1 for extent in plane]
    shape = tf.stack([groups, 2 * samples * (depth + between) + 1, *extents, filters])
    summands = tf.nn.conv3d_transpose(lines, kernel, shape, strides=2, padding="VALID")
    summands = summands[:, : samples * (2 * depth + 1 + between)]
    summands = tf.reshape(summands, [batch, 2 * depth + 1 + between, *extents, filters])[:, : 2 * depth + 1]
    known = [extent and 2 * extent + 1 for extent in coarse.shape[1:4]]
    return tf.ensure_shape(summands, [coarse.shape[0], *known, filters])


def concatenate_upsampled(coarse: tf.Tensor, fine: tf.Tensor) -> tf.Tensor:
    """The general way: up-sample by 2 and concatenate [N, D, H, W, B + C]."""
    for axis in (1, 2, 3):
        coarse = tf.repeat(coarse, 2, axis=axis)
    return tf.concat([coarse, fine], axis=4)


def concatenated_shape(
    coarse: Sequence[int | None], fine: Sequence[int | None], lattice: int, interleaved: bool = False
) -> tuple[int | None, ...]:
    """The shape of the concatenation, in the layout of the fine map (see `space_to_batch`).

    Raises:
        ValueError: The fine grid has not twice the voxels of the coarse one along each axis, or channels are unknown.
    """
    voxels = plain_grid(fine[1:-1], lattice, interleaved)
    unequal = any(c and f and f != 2 * c for c, f in zip(coarse[1:-1], voxels, strict=True))
    if coarse[-1] is None or fine[-1] is None or unequal:
        raise ValueError(
            "Expected a coarse map and one of twice its extents, the channels of both known. "
            f"Received: {tuple(coarse)} and {tuple(fine)} in lattice {lattice}."
        )
    return (*fine[:-1], coarse[-1] + fine[-1])
