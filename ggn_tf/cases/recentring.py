"""Recentring: a patch's centre moves to the centroid of the mask that is predicted in it, until it stays.

The classifier was trained on patches around the centroid of a nodule's mask (paper section 3.1); a click is some
millimetres off. Of a mask in several pieces one is followed: the piece at or nearest to the centre, because the centre
was given to choose a nodule. The largest piece would lead from a small nodule to a large neighbour. Specks at the
centre do not count while there is anything thicker.

The rule has a fixed number of simple steps, so that the served graph computes the same (`serving.export.recentring`).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ggn_tf.protocol import MASK_THRESHOLD

MOST_MOVES = 3
"""The centre moves at most so often."""
STAYS_MM = 0.4
"""A centroid that is not farther than this away is the centre: a little more than half of the patch's finest voxel, so
that rounding does not decide about a mask that is half a voxel off."""
WARNING_MM = 8.0
"""Farther than a click on a nodule is off: recentring may have reached another one."""

REACH_VOXELS = 2
"""A piece is followed over gaps of one voxel: thresholding opens such gaps within a nodule."""
MOST_STEPS = 24
"""Steps of `REACH_VOXELS` that the piece is followed. From one side of a patch to the other there are 16."""

Offset = tuple[float, float, float]


def mask_centroid_offset_mm(mask: npt.NDArray[np.floating], spacing_mm_zyx: Sequence[float]) -> Offset | None:
    """How far the centroid of the nodule at the centre is from the patch's centre.

    The nodule is the piece of the mask with the voxel that is nearest to the centre. Voxels whose six neighbours are
    all in the mask come first; only where there are none, all voxels count. Pieces are one if they are at most
    one voxel apart.

    Takes a mask [z, y, x] or [z, y, x, 1], from 0 to 1, and the distance of its voxels along z, y, x.

    Returns:
        mm along the patch's axes z, y, x; None where no voxel reaches 0.5.
    """
    # Imported here because it takes 0.3 s: checking a server needs the numbers above alone.
    from scipy.ndimage import generate_binary_structure, minimum_filter

    inside = np.asarray(mask).reshape(np.shape(mask)[:3]) >= MASK_THRESHOLD
    if not inside.any():
        return None
    thick = minimum_filter(inside, footprint=generate_binary_structure(rank=3, connectivity=1), mode="constant", cval=0)
    candidates = thick if thick.any() else inside
    offsets = axis_offsets_mm(inside.shape, spacing_mm_zyx)
    z, y, x = np.ix_(*(offset**2 for offset in offsets))
    piece = np.zeros_like(inside)
    piece.flat[np.where(candidates, z + y + x, np.inf).argmin()] = True
    voxels = np.nonzero(_followed(piece, inside))
    z, y, x = (offset[steps].mean() for offset, steps in zip(offsets, voxels, strict=True))
    return float(z), float(y), float(x)


def stays(offset_mm: Offset | None) -> bool:
    """Whether the centre stays: there is no nodule, or its centroid is not farther away than `STAYS_MM`."""
    return offset_mm is None or bool(np.linalg.norm(offset_mm) <= STAYS_MM)


def _followed(piece: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    from scipy.ndimage import maximum_filter

    for _ in range(MOST_STEPS):
        before, piece = piece, maximum_filter(piece, 2 * REACH_VOXELS + 1, mode="constant", cval=0) & inside
        if (piece == before).all():
            break
    return piece


def axis_offsets_mm(shape_zyx: Sequence[int], spacing_mm_zyx: Sequence[float]) -> list[npt.NDArray[np.float64]]:
    """How far the layers of a grid are from its centre, [D], [H] and [W]."""
    pairs = zip(shape_zyx, spacing_mm_zyx, strict=True)
    return [(np.arange(size, dtype=np.float64) - (size - 1) / 2) * np.float64(step) for size, step in pairs]
