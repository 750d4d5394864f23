"""Convolutions of a map up-sampled by 2 (nearest) that never make the up-sampled map."""

from collections.abc import Sequence

import tensorflow as tf

from ggn_tf.models.fast.space_to_batch import plain_grid


def convolve_upsampled(coarse: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Up-sample by 2 and convolve 'same' with 3 taps of dilation 1.

    Nearest up-sampling puts coarse voxel c at fine voxels 2c and 2c + 1. It is zero insertion (c at 2c, zeros between)
    followed by the sum of each voxel and its predecessor, along each axis. Convolution and that sum commute, so

        conv(up(x)) = sum(conv(insert zeros(x)))

    and the convolution of a map with zeros between is a transposed convolution of stride 2: 27 taps per coarse voxel,
    where the up-sampled map would take 27 per fine voxel, 8 times as many. Its result runs from fine voxel -1, the
    first predecessor, to 2D - 1. The sum over 2^3 voxels is 8 times an average pooling.

    Args:
        coarse: [N, D, H, W, C].
        kernel: [3, 3, 3, C, F].

    Returns:
        [N, 2D, 2H, 2W, F] in the type of `coarse`.
    """
    channels, filters = kernel.shape[3:]
    # A convolution reads voxel f + j - 1 with tap j, a transposed one gives to it: the taps in reverse order.
    giving = tf.transpose(tf.reverse(tf.reshape(8 * kernel, [27, channels, filters]), axis=[0]), [0, 2, 1])
    giving = tf.reshape(giving, [3, 3, 3, filters, channels])
    batch, *grid = tf.unstack(tf.shape(coarse)[:4])
    shape = tf.stack([batch, *(2 * extent + 1 for extent in grid), filters])
    summands = tf.nn.conv3d_transpose(coarse, tf.cast(giving, coarse.dtype), shape, strides=2, padding="VALID")
    known = [extent and 2 * extent + 1 for extent in coarse.shape[1:4]]
    summands = tf.ensure_shape(summands, [coarse.shape[0], *known, filters])
    return tf.nn.avg_pool3d(summands, 2, strides=1, padding="VALID")


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
