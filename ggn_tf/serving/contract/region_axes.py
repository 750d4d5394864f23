"""The axes of a region of a CT: as the caller stores them, and S, P, L as the signature `roi` takes them."""

from typing import NamedTuple

import numpy as np

from ggn_tf.errors import ServingError

MODEL_AXES = "SPL"
"""The directions in which the three axes of a region run: towards superior, posterior and left."""
_AXIS = {"S": 0, "I": 0, "P": 1, "A": 1, "L": 2, "R": 2}


class Regions(NamedTuple):
    """The inputs of the signature `roi`.

    Attributes:
        hu: [N, D, H, W], Hounsfield units, axes S, P, L.
        spacing_mm: [N, 3], spacing of the regions' voxels.
        center_index: [N, 3], the nodules' centres in voxels of the regions, 0 at the first voxel's centre.
    """

    hu: np.ndarray
    spacing_mm: np.ndarray
    center_index: np.ndarray


def restore_centers(center_index: np.ndarray, shape: tuple[int, ...], axes: str) -> np.ndarray:
    """Bring centres from the order that the model takes into the caller's; the inverse of `order_regions`.

    Args:
        center_index: [N, 3], in voxels of the regions, axes S, P, L.
        shape: [N, D, H, W], of the caller's regions.
        axes: As in `order_regions`.
    """
    order, turned = _order(axes)
    restored = np.empty_like(center_index)
    restored[:, order] = np.where(turned, np.asarray(shape[1:])[order] - 1 - center_index, center_index)
    return restored


def order_regions(hu: np.ndarray, spacing_mm: np.ndarray, center_index: np.ndarray, axes: str) -> Regions:
    """Bring regions of a CT into the order that the model takes.

    Args:
        hu: [N, D, H, W] in the caller's order of axes; so are the triples.
        spacing_mm: [N, 3].
        center_index: [N, 3].
        axes: The directions nearest to which the axes of `hu` run, first axis first, as three of the letters S, I, P,
            A, L, R: `SPL` for the slices of an axial series from feet to head, `IPL` from head to feet.

    Raises:
        ServingError: `axes` does not name three different axes.
    """
    order, turned = _order(axes)
    ordered, center = hu.transpose(0, *(order + 1)), center_index[:, order]
    last = np.asarray(ordered.shape[1:]) - 1
    flipped = np.flip(ordered, tuple((np.flatnonzero(turned) + 1).tolist()))
    return Regions(flipped, spacing_mm[:, order], np.where(turned, last - center, center))


def _order(axes: str) -> tuple[np.ndarray, np.ndarray]:
    """Which of the caller's axes is each of the model's, and which of these are turned."""
    named = [_AXIS.get(letter, -1) for letter in axes]
    if sorted(named) != [0, 1, 2]:
        raise ServingError(
            "The axes of the region are unknown.",
            found=repr(axes),
            expected="three letters, one each of S or I, P or A, and L or R, for example IPL",
            remedy="Name the direction in which each axis of the array runs, first axis first.",
            arguments=("axes",),
        )
    order = np.argsort(named)
    return order, np.array([axes[axis] != target for axis, target in zip(order, MODEL_AXES, strict=True)])
