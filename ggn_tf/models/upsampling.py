"""Convolutions of a map up-sampled by 2 (nearest) that never make the up-sampled map."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# See `upsampled_kernel`: row t + 1 names the taps that lead from coarse voxel c to fine voxel 2c + t.
_TAPS_OF_OFFSET = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], "float32")


def convolve_upsampled(coarse: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Up-sample by 2 and convolve 'same' with 3 taps of dilation 1.

    The result equals a transposed convolution of stride 2 with the 4 taps of `upsampled_kernel`: 8 taps a voxel instead
    of 27.

    Args:
        coarse: [N, D, H, W, C].
        kernel: float32 [3, 3, 3, C, F].

    Returns:
        [N, 2D, 2H, 2W, F] in the type of `coarse`.
    """
    kernel = tf.cast(upsampled_kernel(kernel), coarse.dtype)
    filters = kernel.shape[3]
    batch, *grid = tf.unstack(tf.shape(coarse)[:4])
    shape = tf.stack([batch, *(2 * extent for extent in grid), filters])
    result = tf.nn.conv3d_transpose(coarse, kernel, shape, strides=2, padding="SAME")
    known = [extent and 2 * extent for extent in coarse.shape[1:4]]
    return tf.ensure_shape(result, [coarse.shape[0], *known, filters])


def upsampled_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """The kernel of the transposed convolution in `convolve_upsampled`.

    Along an axis, fine voxel f = 2c + t reads the up-sampled map at f + j - 1 with tap w_j (j = 0, 1, 2). That is
    coarse voxel c where f + j - 1 is 2c or 2c + 1, so j = 1 - t or 2 - t. Coarse voxel c thus gives to the fine
    voxels

        t = -1: w2        t = 0: w1 + w2        t = 1: w0 + w1        t = 2: w0

    Args:
        kernel: [3, 3, 3, C, F].

    Returns:
        [4, 4, 4, F, C], as `tf.nn.conv3d_transpose` takes it.
    """
    rows = tf.constant(_TAPS_OF_OFFSET, kernel.dtype)
    return tf.einsum("ai,bj,ck,ijkxy->abcyx", rows, rows, rows, kernel)


def add_to_phases(coarse: tf.Tensor, fine: tf.Tensor) -> tf.Tensor:
    """Up-sample by 2 in the lattice layout of 2 and add.

    The sub-lattices of the fine grid are the 8 phases of its voxels within a coarse voxel, so that up-sampling is
    repeating the coarse map for each.

    Args:
        coarse: [N, D, H, W, F] in the plain layout, with known D, H, W.
        fine: [8 N, D, H, W, F] in the lattice layout of 2.

    Returns:
        As `fine`.
    """
    extent = int(np.prod(fine.shape[1:]))
    total = tf.reshape(fine, [-1, 8, extent]) + tf.reshape(coarse, [-1, 1, extent])
    return tf.reshape(total, [-1, *fine.shape[1:]])


def concatenate_upsampled(coarse: tf.Tensor, fine: tf.Tensor) -> tf.Tensor:
    """The general way: up-sample by 2 and concatenate [N, D, H, W, B + C]."""
    for axis in (1, 2, 3):
        coarse = tf.repeat(coarse, 2, axis=axis)
    return tf.concat([coarse, fine], axis=4)


def concatenated_shape(
    coarse: Sequence[int | None], fine: Sequence[int | None], lattice: int
) -> tuple[int | None, ...]:
    """The shape of the concatenation, in the layout of the fine map.

    Raises:
        ValueError: The fine grid has not twice the voxels of the coarse one along each axis, or channels are unknown.
    """
    grids = zip(coarse[1:-1], fine[1:-1], strict=True)
    if coarse[-1] is None or fine[-1] is None or any(c and f and f * lattice != 2 * c for c, f in grids):
        raise ValueError(
            "Expected a coarse map and one of twice its extents, the channels of both known. "
            f"Received: {tuple(coarse)} and {tuple(fine)} in lattice {lattice}."
        )
    return (*fine[:-1], coarse[-1] + fine[-1])
