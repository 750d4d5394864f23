"""The lattice layout, in which a dilated convolution is a plain one.

A 'same' convolution of dilation d reads voxels that are a multiple of d apart. On a grid that d divides, the voxels
fall into d^3 sub-lattices (all positions with the same remainders modulo d), and no tap leads from one into another:
the convolution is d^3 independent convolutions of dilation 1, each zero-padded at its own border, since a tap that
leaves the sub-lattice leaves the grid. The lattice layout puts the sub-lattices of a sample side by side along the
batch:

    [N, D, H, W, C]  <->  [N d^3, D/d, H/d, W/d, C]        voxel (n, d i + p)  <->  ((n, p), i)

or interleaves them along the rows, where neighbours along W then are d^3 voxels apart:

    [N, D, H, W, C]  <->  [N, D/d, H/d, W/d d^3, C]        voxel (n, d i + p)  <->  (n, i_z, i_y, (i_x, p))

Rows d^2 times as long as the map's fill a processor's registers better than the W/d voxels of a sub-lattice (a
convolution's forward and backward pass takes 0.7 to 0.9 times as long), but not every device convolves with a dilation.

Batch normalisation, ReLU and every other operation that treats all voxels alike give the same result in each layout, so
consecutive layers of one dilation share one conversion.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def fitting_lattice(grid: Sequence[int | None], dilation: int) -> int:
    """The lattice in which to compute a dilated convolution on a grid of these extents, None where unknown.

    It is the dilation; or 1, the plain layout, where the dilation does not divide the grid, the grid is unknown, or the
    dilation reaches across the grid (then only the kernel's centre is left, which needs no layout).
    """
    known = [extent for extent in grid if extent is not None]
    if len(known) < len(grid) or max(known) <= dilation or any(extent % dilation for extent in known):
        return 1
    return dilation


def plain_grid(grid: Sequence[int | None], lattice: int, interleaved: bool = False) -> list[int | None]:
    """The spatial extents in the plain layout, of the ones (None where unknown) in a lattice layout."""
    depth, height, width = grid
    if interleaved and width is not None:
        width //= lattice**3
    return [extent and extent * lattice for extent in (depth, height, width)]


def to_lattice(x: tf.Tensor, lattice: int, interleaved: bool = False) -> tf.Tensor:
    """Bring a plain map [N, D, H, W, C], of known D, H, W that `lattice` (d above) divides, into the lattice layout.

    The result is [N d^3, D/d, H/d, W/d, C], or interleaved [N, D/d, H/d, W/d d^3, C].
    """
    depth, height, width = (extent // lattice for extent in x.shape[1:4])
    channels = x.shape[4]
    x = tf.reshape(x, [-1, depth, lattice, height, lattice, width, lattice, channels])
    if interleaved:
        x = tf.transpose(x, [0, 1, 3, 5, 2, 4, 6, 7])
        return tf.reshape(x, [-1, depth, height, width * lattice**3, channels])
    x = tf.transpose(x, [0, 2, 4, 6, 1, 3, 5, 7])
    return tf.reshape(x, [-1, depth, height, width, channels])


def from_lattice(x: tf.Tensor, lattice: int, interleaved: bool = False) -> tf.Tensor:
    """Bring a map from the lattice layout back into the plain one: the inverse of `to_lattice`."""
    depth, height, width, channels = x.shape[1:]
    if interleaved:
        width //= lattice**3
        x = tf.reshape(x, [-1, depth, height, width, lattice, lattice, lattice, channels])
        x = tf.transpose(x, [0, 1, 4, 2, 5, 3, 6, 7])
    else:
        x = tf.reshape(x, [-1, lattice, lattice, lattice, depth, height, width, channels])
        x = tf.transpose(x, [0, 4, 1, 5, 2, 6, 3, 7])
    return tf.reshape(x, [-1, depth * lattice, height * lattice, width * lattice, channels])


class _Conversion(keras.layers.Layer):
    def __init__(self, lattice: int, *, interleaved: bool = False, **config: Any) -> None:
        super().__init__(**config)
        self.lattice = lattice
        self.interleaved = interleaved

    def get_config(self) -> dict[str, Any]:
        """What the constructor needs to build an equal layer."""
        return {**super().get_config(), "lattice": self.lattice, "interleaved": self.interleaved}


@keras.saving.register_keras_serializable(package="ggn_tf", name="Scatter")
class ToLattice(_Conversion):
    """From the plain layout into the lattice layout."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See `to_lattice`."""
        return to_lattice(inputs, self.lattice, self.interleaved)


@keras.saving.register_keras_serializable(package="ggn_tf", name="Gather")
class FromLattice(_Conversion):
    """From the lattice layout into the plain layout."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See `from_lattice`."""
        return from_lattice(inputs, self.lattice, self.interleaved)
