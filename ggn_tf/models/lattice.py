"""The lattice layout, in which a dilated convolution is a plain one.

A 'same' convolution of dilation d reads voxels that lie a multiple of d apart. On a grid that d divides, the voxels
fall into d^3 sub-lattices (all positions with the same remainders modulo d), and no tap leads from one into another:
the convolution is d^3 independent convolutions of dilation 1, each zero-padded at its own border, since a tap that
leaves the sub-lattice leaves the grid. The lattice layout lays the sub-lattices of a sample side by side along the
batch:

    [N, D, H, W, C]  <->  [N d^3, D/d, H/d, W/d, C]        voxel (n, d i + p)  <->  ((n, p), i)

Batch normalisation, ReLU and every other operation that treats voxels alike do not see the difference, so consecutive
layers of one dilation share one trip.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def fitting_lattice(grid: Sequence[int | None], dilation: int) -> int:
    """The lattice in which to compute a dilated convolution.

    Args:
        grid: Spatial extents, None where unknown.
        dilation: Distance of neighbouring kernel taps.

    Returns:
        The dilation; or 1, the plain layout, where it does not divide the grid, the grid is unknown, or it reaches
        across the grid (then the kernel's centre is all that is left, and no layout is needed for that).
    """
    known = [extent for extent in grid if extent is not None]
    if len(known) < len(grid) or max(known) <= dilation or any(extent % dilation for extent in known):
        return 1
    return dilation


def scatter(x: tf.Tensor, lattice: int) -> tf.Tensor:
    """Bring a plain map into the lattice layout.

    Args:
        x: [N, D, H, W, C] with known D, H, W that `lattice` divides.
        lattice: The text's d.

    Returns:
        [N d^3, D/d, H/d, W/d, C].
    """
    depth, height, width = (extent // lattice for extent in x.shape[1:4])
    x = tf.reshape(x, [-1, depth, lattice, height, lattice, width, lattice, x.shape[4]])
    x = tf.transpose(x, [0, 2, 4, 6, 1, 3, 5, 7])
    return tf.reshape(x, [-1, depth, height, width, x.shape[7]])


def gather(x: tf.Tensor, lattice: int) -> tf.Tensor:
    """Bring a map from the lattice layout back into the plain one: the inverse of `scatter`.

    Args:
        x: [N d^3, D/d, H/d, W/d, C].
        lattice: The text's d.

    Returns:
        [N, D, H, W, C].
    """
    depth, height, width, channels = x.shape[1:]
    x = tf.reshape(x, [-1, lattice, lattice, lattice, depth, height, width, channels])
    x = tf.transpose(x, [0, 4, 1, 5, 2, 6, 3, 7])
    return tf.reshape(x, [-1, depth * lattice, height * lattice, width * lattice, channels])


class _Trip(keras.layers.Layer):
    """What both directions share: the lattice, and that neither has weights."""

    def __init__(self, lattice: int, **config: Any) -> None:
        super().__init__(**config)
        self.lattice = lattice

    def get_config(self) -> dict[str, Any]:
        """What the constructor needs to build an equal layer."""
        return {**super().get_config(), "lattice": self.lattice}


@keras.saving.register_keras_serializable(package="ggn_tf")
class Scatter(_Trip):
    """From the plain layout into the lattice layout."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See `scatter`."""
        return scatter(inputs, self.lattice)


@keras.saving.register_keras_serializable(package="ggn_tf")
class Gather(_Trip):
    """From the lattice layout into the plain layout."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See `gather`."""
        return gather(inputs, self.lattice)
