"""The patch around a nodule inside the graph (`cases.patches.cut_patch` without SimpleITK), and its recentring.

Patch and region have the same axes, so linear interpolation is separable: along each axis every layer of the patch is
between two of the region. Only voxels where such layers cross are read, so the cost does not depend on the region's
size. All is computed in float64, as in SimpleITK, because 0.001 HU can change a probability of a bfloat16 network by
some thousandths. A patch equals SimpleITK's to the last bit of a float32, except for a layer within 0.0001 voxels of
the region's end, which is air here.

The loop (`cases.recentring`, and `recentred` of `prediction.nodules`) contains the network once, so that it adds no
weights to an export: it predicts at each row's centre until none moves any more. Rows that stay are predicted again
with the others, which changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ggn_tf.cases.patch_location import POINT_DECIMALS
from ggn_tf.cases.recentring import MOST_MOVES, MOST_STEPS, REACH_VOXELS, STAYS_MM, axis_offsets_mm
from ggn_tf.protocol import MASK_THRESHOLD, PatchProtocol
from ggn_tf.serving.export.ensemble import PatchOutputs

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


class RecenteredPatches(NamedTuple):
    """Patches around the last centres.

    Attributes:
        center_index: [N, 3] float64, z, y, x, in voxels of the region.
    """

    center_index: tf.Tensor
    cut: CutPatches
    outputs: PatchOutputs


class _State(NamedTuple):
    """What an iteration passes to the next one: which rows move, and to which centres."""

    moving: tf.Tensor
    next_center: tf.Tensor
    patches: RecenteredPatches


def recenter(
    hu: tf.Tensor,
    spacing_mm: tf.Tensor,
    center_index: tf.Tensor,
    protocol: PatchProtocol,
    predict: Callable[[tf.Tensor], PatchOutputs],
    no_outputs: PatchOutputs,
) -> RecenteredPatches:
    """Cut patches, predict them, and move each centre to the centroid of the nodule there, at most three times.

    A centre stays where there is no nodule, where its centroid is within `STAYS_MM`, or outside the region, and in rows
    without a prediction. If no row has a sound geometry, no patch is cut and predicted.

    The first arguments are as in `cut_patches`. `predict` takes patches [N, S, S, S, 1] in Hounsfield units;
    `no_outputs` has as many rows, and is returned where nothing is predicted.
    """

    def step(state: _State) -> tuple[_State]:
        center = state.next_center
        cut = cut_patches(hu, spacing_mm, center, protocol)
        outputs = predict(cut.hu)
        offset_mm, found = centroid_offsets_mm(outputs.mask, protocol.spacing_mm_zyx)
        moved = _rounded(center + offset_mm / spacing_mm)
        predicted = tf.reduce_all(tf.math.is_finite(cut.hu), (1, 2, 3, 4))
        leaves = lengths(offset_mm) > STAYS_MM
        moving = state.moving & predicted & found & leaves & is_sound(hu, spacing_mm, moved)
        following = tf.where(moving[:, None], moved, center)
        return (_State(moving, following, RecenteredPatches(center, cut, outputs)),)

    size, count = protocol.size, tf.shape(hu)[0]
    patch_shape = tf.stack([count, size, size, size, 1])
    nothing = RecenteredPatches(
        center_index,
        CutPatches(tf.zeros(patch_shape), tf.zeros(patch_shape, tf.bool)),
        no_outputs,
    )
    (last,) = tf.while_loop(
        lambda state: tf.reduce_any(state.moving),
        step,
        [_State(is_sound(hu, spacing_mm, center_index), center_index, nothing)],
        maximum_iterations=MOST_MOVES + 1,
    )
    return last.patches


def centroid_offsets_mm(mask: tf.Tensor, spacing_mm_zyx: Sequence[float]) -> tuple[tf.Tensor, tf.Tensor]:
    """How far the centroids of the nodules at the centres are from the patches' centres.

    Takes masks [N, S, S, S, 1], from 0 to 1, and the distance of their voxels along z, y, x.

    Returns:
        [N, 3] float64, mm along z, y, x, and [N] bool, whether there is a nodule; without one the offset is 0.
    """
    size = mask.shape[1]
    shape = (size, size, size)
    inside = mask[..., 0] >= MASK_THRESHOLD
    thick = inside & _all_neighbours(inside)
    candidates = tf.where(tf.reduce_any(thick, (1, 2, 3), keepdims=True), thick, inside)
    z, y, x = axis_offsets_mm(shape, spacing_mm_zyx)
    # Added in the graph, so that an export contains three short rows.
    distances = tf.constant((z**2)[:, None, None]) + tf.constant((y**2)[:, None]) + tf.constant(x**2)
    nearest = tf.argmin(tf.reshape(tf.where(candidates, distances, np.inf), [-1, size**3]), axis=1)
    seed = tf.reshape(tf.one_hot(nearest, size**3, True, False, dtype=tf.bool), [-1, *shape]) & inside
    piece = tf.cast(_followed(seed, inside), tf.float64)
    count = tf.reduce_sum(piece, (1, 2, 3))
    others = ((2, 3), (1, 3), (1, 2))
    sums_mm = [
        tf.reduce_sum(tf.reduce_sum(piece, across) * offset, axis=1)
        for offset, across in zip((z, y, x), others, strict=True)
    ]
    return tf.stack(sums_mm, axis=1) / tf.maximum(count, 1.0)[:, None], count > 0


def lengths(vectors: tf.Tensor) -> tf.Tensor:
    """The length of each vector, [N], of [N, 3]."""
    return tf.sqrt(tf.reduce_sum(tf.square(vectors), axis=1))


def _all_neighbours(inside: tf.Tensor) -> tf.Tensor:
    """Whether all six neighbours of a voxel are inside, [N, S, S, S]; those outside the patch are not."""
    padded = tf.pad(inside, [(0, 0), (1, 1), (1, 1), (1, 1)])
    middle, before, behind = slice(1, -1), slice(None, -2), slice(2, None)
    sides = [(side, middle, middle) for side in (before, behind)]
    sides += [(middle, side, middle) for side in (before, behind)]
    sides += [(middle, middle, side) for side in (before, behind)]
    return tf.reduce_all(tf.stack([padded[:, z, y, x] for z, y, x in sides]), axis=0)


def _followed(seed: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """The piece of a mask around a seed: as many steps as anything grows, at most `MOST_STEPS`."""

    def step(piece: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        grown = _grown(piece) & inside
        return grown, tf.reduce_any(grown != piece)

    piece: tf.Tensor = tf.while_loop(
        lambda _, growing: growing, step, (seed, tf.constant(True)), maximum_iterations=MOST_STEPS
    )[0]
    return piece


def _grown(piece: tf.Tensor) -> tf.Tensor:
    """All voxels that are at most `REACH_VOXELS` away along each axis, by products with a band of ones."""
    steps = np.arange(piece.shape[1])
    near = tf.constant(np.abs(steps[:, None] - steps) <= REACH_VOXELS, tf.float32)
    # z, y, x become x, z, y with each product: after three they are in their order.
    reached = tf.cast(piece, tf.float32)
    for _ in range(3):
        reached = tf.transpose(tf.linalg.matmul(reached, near), [0, 3, 1, 2])
    return reached > 0


def _rounded(center_index: tf.Tensor) -> tf.Tensor:
    """As `round_point` rounds given centres."""
    scale = 10.0**POINT_DECIMALS
    return tf.round(center_index * scale) / scale
