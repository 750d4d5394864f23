"""The region of a nodule on one slice of its DICOM series, in the pixel coordinates of DICOM."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import binary_fill_holes, label

from ggn_tf.cases.geometry.grid import Vector
from ggn_tf.cases.measurements import slice_of_long_axis
from ggn_tf.cases.volumes import Volume
from ggn_tf.prediction.nodules import slices_of

Corner = tuple[int, int]


@dataclass(frozen=True)
class SliceRegion:
    """An outline, or a point, on a slice.

    Attributes:
        number: Index of the slice in the series' stack.
        points: [N, 2], column and row; (0, 0) is the outer corner of the first pixel (DICOM PS3.3 C.18.6.1.2). A closed
            outline ends with its first point; a point is one row.
    """

    number: int
    points: npt.NDArray[np.floating]


def region_of(volume: Volume, mask: sitk.Image | None, center_mm_lps: Vector) -> SliceRegion:
    """The outline of a nodule on the slice of its long axis; its centre where no slice contains the nodule.

    `mask` is 0 or 1, on a block of the volume's grid.
    """
    if mask is not None:
        whole = np.zeros(volume.grid.size_xyz[::-1], np.uint8)
        whole[slices_of(volume.grid, mask)] = sitk.GetArrayViewFromImage(mask)
        on_slices = volume.on_slices(volume.axes.to_stored(whole))
        used = np.flatnonzero(on_slices.any(axis=(1, 2)))
        if len(used):
            part = on_slices[used[0] : used[-1] + 1] > 0
            longest = slice_of_long_axis(part, volume.stored_grid)
            return SliceRegion(int(used[0]) + longest, outline(part[longest]))
    return _point(volume, center_mm_lps)


def outline(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating]:
    """The outer outline of the largest part of a mask, along the edges of its pixels.

    Takes [y, x], not empty. Pixels that touch at a corner alone are two parts; holes are filled.

    Returns:
        [N, 2], column and row of the corners, as `SliceRegion.points`; the first corner is repeated at the end.
    """
    parts, _ = label(inside)
    largest = binary_fill_holes(parts == 1 + np.bincount(parts.ravel())[1:].argmax())
    # The border of one pixel around it shifts the corners by one.
    corners = np.array(list(_walk(np.pad(largest, 1)))) - 1
    turns = (np.roll(corners, -1, axis=0) - corners != corners - np.roll(corners, 1, axis=0)).any(axis=1)
    around = corners[turns].astype(float)
    return np.concatenate([around, around[:1]])


def _walk(inside: npt.NDArray[np.bool_]) -> Iterator[Corner]:
    """The corners along the edge of one part, from pixel to pixel, its inside to the right hand."""
    y, x = np.argwhere(inside)[0].tolist()
    corner, step = (x, y), (1, 0)
    while True:
        yield corner
        corner = (corner[0] + step[0], corner[1] + step[1])
        if corner == (x, y):
            return
        right, left = (-step[1], step[0]), (step[1], -step[0])
        # To the right first: where two pixels touch at a corner alone, the edge stays with its pixel.
        step = next(turn for turn in (right, step, left) if _is_edge(inside, corner, turn))


def _is_edge(inside: npt.NDArray[np.bool_], corner: Corner, step: Corner) -> bool:
    """Whether of the two pixels beside a step the one to the right hand is inside and the other is not."""
    (x, y), (dx, dy) = corner, step
    right = inside[y + (dx + dy - 1) // 2, x + (dx - dy - 1) // 2]
    left = inside[y + (dy - dx - 1) // 2, x + (dx + dy - 1) // 2]
    return bool(right and not left)


def _point(volume: Volume, center_mm_lps: Vector) -> SliceRegion:
    slices = volume.stack.slices if volume.stack else ()
    axes = [np.reshape(item.direction, (3, 3)).T for item in slices]
    offsets = [np.subtract(center_mm_lps, item.origin_mm_lps) for item in slices]
    number = int(np.argmin([abs(offset @ axis[2]) for axis, offset in zip(axes, offsets, strict=True)]))
    item = slices[number]
    index = axes[number][:2] @ offsets[number] / item.spacing_mm_xyz[:2]
    return SliceRegion(number, index[None] + 0.5)
