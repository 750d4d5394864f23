"""Augmentation on the fly (paper section 3.2): one function draws its parameters, another applies them to a batch.

Shifts of the centre are not the paper's; they are cut out of a dataset's margin before the rest.

A flip and a rotation by quarter turns only permute and mirror the axes of a patch, so both together are one gather of
voxels: exact, without interpolation, and the same on every device.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ggn_tf.protocol import AugmentationProtocol, PatchProtocol

AXES = 3
NO_FLIP = AXES
QUARTER_TURNS = 4

# Explicit, because TensorFlow's own choice depends on the device.
_GENERATOR = "philox"


class Augmentation(NamedTuple):
    """What is done to each sample of a batch, in this order: flip, rotation, noise.

    The batch is the first axis of every tensor, so a worker with a slice of the batch takes the same slice of each
    (`part`).

    Attributes:
        flip_axis: int32 [N], 0, 1, 2 for z, y, x; `NO_FLIP` where the sample is not flipped.
        rotation_axis: int32 [N], 0, 1, 2 for z, y, x.
        quarter_turns: int32 [N], 0 to 3, in the plane of the two other axes, from the first towards the second.
        noise_seed: int32 [N, 2], the seed of each sample's noise.
        noise_sigma: float32 [N], standard deviation on the scale of the normalised patch.
    """

    flip_axis: tf.Tensor
    rotation_axis: tf.Tensor
    quarter_turns: tf.Tensor
    noise_seed: tf.Tensor
    noise_sigma: tf.Tensor

    def part(self, start: tf.Tensor | int, stop: tf.Tensor | int) -> "Augmentation":
        """The draw of the samples from `start` to `stop` of the batch, `stop` not included."""
        return Augmentation(*(drawn[start:stop] for drawn in self))


def draw_augmentation(batch: tf.Tensor | int, seed: tf.Tensor, protocol: AugmentationProtocol) -> Augmentation:
    """Draw the parameters of a whole batch; the same seed always gives the same.

    Args:
        batch: Samples in the whole batch, over all workers.
        seed: int32 [2].
        protocol: Probability of a flip and the noise's sigma.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, num=5, alg=_GENERATOR))
    flipped = tf.random.stateless_uniform([batch], seeds[0], alg=_GENERATOR) < protocol.flip_probability
    return Augmentation(
        flip_axis=tf.where(flipped, _draw_integers(batch, seeds[1], AXES), NO_FLIP),
        rotation_axis=_draw_integers(batch, seeds[2], AXES),
        quarter_turns=_draw_integers(batch, seeds[3], QUARTER_TURNS),
        noise_seed=tf.random.stateless_uniform([batch, 2], seeds[4], None, None, tf.int32, alg=_GENERATOR),
        noise_sigma=tf.fill([batch], tf.constant(protocol.noise_sigma, tf.float32)),
    )


def apply_augmentation(patch: tf.Tensor, mask: tf.Tensor, drawn: Augmentation) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply a draw: flip and rotate patch and mask, and add noise to the patch.

    Args:
        patch: float32 [N, S, S, S, 1], axes z, y, x, normalised to [-1, 1] (eq. 5). With noise, values may leave
            [-1, 1] a little: clipping would make the noise of air one-sided.
        mask: float32 [N, S, S, S, 1].
        drawn: The draw for the same N samples.

    Returns:
        Patch and mask of the same shapes.

    Raises:
        ValueError: The patches are not cubes, or their size is not known when the graph is built.
    """
    size = patch.shape[1]
    if size is None or patch.shape[1:] != (size, size, size, 1):
        raise ValueError(f"Expected cubic patches [N, S, S, S, 1] with a static S. Received: shape {patch.shape}")
    voxels = _source_voxels(drawn, size)
    moved = [tf.gather(tf.reshape(whole, [-1, size**3]), voxels, batch_dims=1) for whole in (patch, mask)]
    noise = tf.map_fn(
        lambda seed: tf.random.stateless_normal([size**3], seed, alg=_GENERATOR),
        drawn.noise_seed,
        fn_output_signature=tf.TensorSpec([size**3], tf.float32),
    )
    noisy = moved[0] + drawn.noise_sigma[:, tf.newaxis] * noise
    return tf.reshape(noisy, [-1, size, size, size, 1]), tf.reshape(moved[1], [-1, size, size, size, 1])


def draw_shift(
    batch: tf.Tensor | int, seed: tf.Tensor, radius_mm: float, spacing_mm_zyx: tuple[float, float, float]
) -> tf.Tensor:
    """Draw how far each patch's centre is off: uniform in a ball, in whole voxels, so that nothing is interpolated.

    Args:
        batch: Samples in the whole batch, over all workers.
        seed: int32 [2].
        radius_mm: Radius of the ball.
        spacing_mm_zyx: Distance of the patch's voxels.

    Returns:
        int32 [batch, 3], voxels along z, y, x.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, num=2, alg=_GENERATOR))
    direction = tf.math.l2_normalize(tf.random.stateless_normal([batch, AXES], seeds[0], alg=_GENERATOR), axis=1)
    share = tf.random.stateless_uniform([batch, 1], seeds[1], alg=_GENERATOR) ** (1 / 3)
    return tf.cast(tf.round(radius_mm * share * direction / tf.constant(spacing_mm_zyx)), tf.int32)


def cut_shifted(stored: tf.Tensor, shift: tf.Tensor, protocol: PatchProtocol) -> tf.Tensor:
    """Cut patches whose centres are off the nodule's out of patches with a margin.

    Args:
        stored: [N, D, H, W, 1], `PatchProtocol.stored_zyx` voxels.
        shift: int32 [N, 3], voxels along z, y, x, not more than the margin.
        protocol: The margin and the size.

    Returns:
        [N, S, S, S, 1].
    """
    size, (_, height, width) = protocol.size, protocol.stored_zyx
    z, y, x = tf.unstack((shift + protocol.margin_zyx)[:, :, tf.newaxis] + tf.range(size), axis=1)
    rows = z[:, :, tf.newaxis] * height + y[:, tf.newaxis, :]
    voxels = rows[:, :, :, tf.newaxis] * width + x[:, tf.newaxis, tf.newaxis, :]
    count = tf.shape(stored)[0]
    return tf.reshape(
        tf.gather(tf.reshape(stored, [count, -1]), tf.reshape(voxels, [count, -1]), batch_dims=1),
        [count, size, size, size, 1],
    )


def _draw_integers(batch: tf.Tensor | int, seed: tf.Tensor, below: int) -> tf.Tensor:
    return tf.random.stateless_uniform([batch], seed, 0, below, tf.int32, alg=_GENERATOR)


def _source_voxels(drawn: Augmentation, size: int) -> tf.Tensor:
    """For every voxel of the result the flat index of its source voxel, int32 [N, S^3]."""
    row = (drawn.flip_axis * AXES + drawn.rotation_axis) * QUARTER_TURNS + drawn.quarter_turns
    first, *steps = tf.unstack(tf.gather(_source_steps(size), row), axis=1)
    along = tf.range(size)
    z, y, x = (step[:, tf.newaxis] * along for step in steps)
    voxels = (
        first[:, tf.newaxis, tf.newaxis, tf.newaxis]
        + z[:, :, tf.newaxis, tf.newaxis]
        + y[:, tf.newaxis, :, tf.newaxis]
        + x[:, tf.newaxis, tf.newaxis, :]
    )
    return tf.reshape(voxels, [-1, size**3])


@functools.cache
def _source_steps(size: int) -> np.ndarray:
    """For each of the 48 pairs of flip and rotation: the source of voxel (0, 0, 0) and the steps along z, y, x.

    Mirroring and permuting axes keeps the flat index an affine function of the position, so four integers describe a
    pair; they are read from the moved array of voxel numbers.
    """
    numbers = np.arange(size**3, dtype=np.int32).reshape(size, size, size)
    table = []
    for flip_axis in (*range(AXES), NO_FLIP):
        flipped = numbers if flip_axis == NO_FLIP else np.flip(numbers, flip_axis)
        for rotation_axis in range(AXES):
            plane = [axis for axis in range(AXES) if axis != rotation_axis]
            for turns in range(QUARTER_TURNS):
                moved = np.rot90(flipped, turns, axes=(plane[0], plane[1]))
                first = moved[0, 0, 0]
                table.append([first, moved[1, 0, 0] - first, moved[0, 1, 0] - first, moved[0, 0, 1] - first])
    return np.array(table, np.int32)
