"""The patch around a nodule, cut from raw CT inside the graph: `cases.patches.cut_patch` without SimpleITK.

Patch and region have the same axes, so linear interpolation is separable: along each axis every layer of the patch is
between two of the region. Only voxels where such layers cross are read, so the cost does not depend on the region's
size. All is computed in float64, as in SimpleITK, because 0.001 HU can change a probability of a bfloat16 network by
some thousandths. A patch equals SimpleITK's to the last bit of a float32, except for a layer within 0.0001 voxels of
the region's end, which is air here.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ggn_tf.protocol import PatchProtocol

# In voxels: an index of 512 that once was a float32 has an error of 0.00003. Centroids at fifths of 2.5 mm do put
# layers exactly on the end.
_AT_THE_END = 1e-4


class CutPatches(NamedTuple):
    """Patches, and which of their voxels are inside the regions.

    Attributes:
        hu: [N, S, S, S, 1] float32, Hounsfield units, axes z, y, x.
        covered: [N, S, S, S, 1] bool, inside the region; elsewhere `hu` is `PatchProtocol.outside_hu`.
    """

    hu: tf.Tensor
    covered: tf.Tensor


class _Layers(NamedTuple):
    """The patch's layers along one axis of the region.

    Attributes:
        pair: int32 [N, 2 S], the region's layers before each of them, then those behind.
        weight: float64 [N, S], weight of the layer behind.
        covered: bool [N, S], inside the region.
    """

    pair: tf.Tensor
    weight: tf.Tensor
    covered: tf.Tensor


def cut_patches(hu: tf.Tensor, spacing_mm: tf.Tensor, center_index: tf.Tensor, protocol: PatchProtocol) -> CutPatches:
    """Resample regions linearly onto the patch's grid (paper section 3.1), as SimpleITK's Resample does.

    SimpleITK interpolates from half a voxel before the first voxel's centre (included) to half a voxel behind the last
    one's (excluded); beyond the centres it repeats the outermost value. Values below `protocol.outside_hu`, which
    scanners write where they did not measure, count as air.

    Args:
        hu: [N, D, H, W] float32, Hounsfield units, axes z, y, x.
        spacing_mm: [N, 3] float64, z, y, x, spacing of the region's voxels.
        center_index: [N, 3] float64, z, y, x: the patch's centre in voxels of the region, 0 at the first voxel's
            centre.
        protocol: The patch's size, spacing, and value outside.
    """
    size = protocol.size
    extent = tf.shape(hu)
    axes = [
        _layers(center_index[:, axis], spacing_mm[:, axis], extent[axis + 1], size, protocol.spacing_mm_zyx[axis])
        for axis in range(3)
    ]
    (z, y, x), (weight_z, weight_y, weight_x), (in_z, in_y, in_x) = zip(*axes, strict=True)
    flat = (z[:, :, None, None] * extent[2] + y[:, None, :, None]) * extent[3] + x[:, None, None, :]
    values = tf.gather(tf.reshape(hu, [extent[0], -1]), tf.reshape(flat, [extent[0], (2 * size) ** 3]), batch_dims=1)
    values = tf.cast(tf.maximum(values, protocol.outside_hu), tf.float64)
    values = tf.reshape(values, [-1, 2 * size, 2 * size, 2 * size])
    values = _between(values[:, :size], values[:, size:], weight_z[:, :, None, None])
    values = _between(values[:, :, :size], values[:, :, size:], weight_y[:, None, :, None])
    values = _between(values[..., :size], values[..., size:], weight_x[:, None, None, :])
    covered = in_z[:, :, None, None] & in_y[:, None, :, None] & in_x[:, None, None, :]
    hu = tf.where(covered, tf.cast(values, tf.float32), protocol.outside_hu)
    return CutPatches(hu[..., None], covered[..., None])


def is_sound(hu: tf.Tensor, spacing_mm: tf.Tensor, center_index: tf.Tensor) -> tf.Tensor:
    """Whether there is a patch to cut, [N]: spacings are positive, and the centre is in a voxel (see `cut_patches`)."""
    end = tf.cast(tf.shape(hu)[1:], tf.float64) - 0.5
    inside = (center_index >= -0.5) & (center_index < end)
    return tf.reduce_all(inside & (spacing_mm > 0) & tf.math.is_finite(spacing_mm), axis=1)


def _layers(center: tf.Tensor, spacing_mm: tf.Tensor, extent: tf.Tensor, size: int, step_mm: float) -> _Layers:
    """A layer closer to the region's end than a float32 can resolve counts as on it."""
    offsets_mm = (np.arange(size) - (size - 1) / 2) * step_mm
    index = center[:, None] + tf.constant(offsets_mm) / spacing_mm[:, None]
    covered = (index >= -0.5 - _AT_THE_END) & (index < tf.cast(extent, tf.float64) - 0.5 - _AT_THE_END)
    # A layer outside the region, or at NaN, reads any voxel that exists.
    within = tf.clip_by_value(tf.where(covered, index, 0.0), 0.0, tf.cast(extent - 1, tf.float64))
    before = tf.floor(within)
    lower = tf.cast(before, tf.int32)
    pair = tf.concat([lower, tf.minimum(lower + 1, extent - 1)], axis=1)
    return _Layers(pair, within - before, covered)


def _between(before: tf.Tensor, behind: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return before + weight * (behind - before)
