"""The convolution of a map with a single channel, such as the patch, and its gradient with respect to that map."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

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
    registers. So blocks of 4 x 2 x 2 voxels become 16 channels. With block b and voxel p in it along an
    axis, the gradient at voxel f = b v + p is sum_j w_j g(f + 1 - j): it reads g at b v - 1 + k with tap j = p + 2 -
    k, k = 0 .. b + 1. That is a convolution of stride b with b + 2 taps, the same for every block.

    Args:
        x: [N, D, H, W, 1]; see `is_single_channel`.
        kernel: [3, 3, 3, 1, F] in the type of `x`.

    Returns:
        [N, D, H, W, F].
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
