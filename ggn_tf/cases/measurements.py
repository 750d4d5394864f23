"""Measurements of a nodule on the CT's own voxels, as guidelines name them. None is a category or advice.

Lengths are from voxel edge to voxel edge, as on a rendered contour, unrounded; reports show them to 0.1 mm.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import label, map_coordinates
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from ggn_tf.cases.geometry.grid import Box, Floats, Grid
from ggn_tf.protocol import SOLID_HU

# Air; water is 0 HU and 1 mg/mm3.
_AIR_HU = -1000.0
# Of the perpendicular diameter: a third of a pixel.
_STEPS_PER_PIXEL = 3
# Points of which all distances are computed sooner than their convex hull.
_MOST_PAIRED = 200


class Measurements(NamedTuple):
    """The measurements of a nodule.

    Attributes:
        volume_mm3: Number of voxels times their volume (Fleischner Society 2017; Lung-RADS 2022).
        diameter_mm: Diameter of the ball of that volume.
        longest_diameter_mm: Longest distance within one slice: the long axis (TNM, RECIST 1.1).
        mean_hu: Mean inside the mask.
        solid_fraction: Fraction of voxels above the solid threshold.
        perpendicular_diameter_mm: Longest distance at right angles to the long axis, in its slice.
        mean_diameter_mm: Mean of both (Fleischner Society 2017, Bankier et al., Radiology 285:584; Lung-RADS).
        diameter_3d_mm: Longest distance in space.
        mass_mg: Volume times density, which is 0 at -1000 HU and 1 mg/mm3 at 0 HU (de Hoop et al. 2010, Radiology
            255:199).
        solid_volume_mm3: Volume above the solid threshold.
        solid_longest_diameter_mm: Long axis of the largest connected solid part (T category of part-solid
            adenocarcinoma, TNM 8 and 9); 0 without one.
        solid_mean_diameter_mm: Its mean diameter (Fleischner Society 2017; Lung-RADS).
        consolidation_to_tumor_ratio: Long axis of the solid part, divided by that of the nodule (JCOG 0201), at most 1.
        solid_hu: The solid threshold, HU.
    """

    volume_mm3: float
    diameter_mm: float
    longest_diameter_mm: float
    mean_hu: float
    solid_fraction: float
    perpendicular_diameter_mm: float
    mean_diameter_mm: float
    diameter_3d_mm: float
    mass_mg: float
    solid_volume_mm3: float
    solid_longest_diameter_mm: float
    solid_mean_diameter_mm: float
    consolidation_to_tumor_ratio: float
    solid_hu: float


def measure(image: sitk.Image, mask: sitk.Image, solid_hu: float = SOLID_HU) -> Measurements:
    """Measure a nodule on the CT's own voxels.

    The mask is not empty, on a block of the same CT that may be smaller than the image's.
    """
    grid = Grid.from_image(mask)
    start = np.rint(Grid.from_image(image).index_of(grid.origin_mm_lps)).astype(int)
    box = Box.between(start.tolist(), (start + grid.size_xyz - 1).tolist())
    inside = sitk.GetArrayViewFromImage(mask) > 0
    block = sitk.GetArrayViewFromImage(image)[box.slices_zyx]
    values = block[inside]
    voxel_mm3 = float(np.prod(grid.spacing_mm_xyz))
    volume_mm3, mean_hu = values.size * voxel_mm3, float(values.mean(dtype=np.float64))
    solid = inside & (block > solid_hu)
    ends, solid_part = _row_ends_mm(inside, grid), _largest_part(solid)
    long_mm, short_mm = _diameters_mm(inside, ends, grid)
    solid_long_mm, solid_short_mm = _diameters_mm(solid_part, _row_ends_mm(solid_part, grid), grid)
    return Measurements(
        volume_mm3=volume_mm3,
        diameter_mm=(6 * volume_mm3 / np.pi) ** (1 / 3),
        longest_diameter_mm=long_mm,
        mean_hu=mean_hu,
        solid_fraction=float(np.mean(values > solid_hu)),
        perpendicular_diameter_mm=short_mm,
        mean_diameter_mm=(long_mm + short_mm) / 2,
        diameter_3d_mm=_diameter_3d_mm(ends, grid),
        mass_mg=volume_mm3 * max(mean_hu - _AIR_HU, 0.0) / -_AIR_HU,
        solid_volume_mm3=int(np.count_nonzero(solid)) * voxel_mm3,
        solid_longest_diameter_mm=solid_long_mm,
        solid_mean_diameter_mm=(solid_long_mm + solid_short_mm) / 2,
        consolidation_to_tumor_ratio=solid_long_mm / long_mm,
        solid_hu=float(solid_hu),
    )


def slice_of_long_axis(inside: npt.NDArray[np.bool_], grid: Grid) -> int:
    """The slice in which `Measurements.longest_diameter_mm` is measured.

    Takes [z, y, x], not empty.
    """
    return _long_axis(_row_ends_mm(inside, grid))[2]


def _largest_part(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    parts, count = label(inside, np.ones((3, 3, 3)))
    part: npt.NDArray[np.bool_] = parts == 1 + np.bincount(parts.ravel())[1:].argmax() if count else inside
    return part


def _diameters_mm(inside: npt.NDArray[np.bool_], ends: dict[int, Floats], grid: Grid) -> tuple[float, float]:
    """Long axis and longest perpendicular in the slice with the longest long axis; 0 where nothing is inside."""
    longest, ends_mm, level = _long_axis(ends)
    if longest < 0:
        return 0.0, 0.0
    width_mm, height_mm, _ = grid.spacing_mm_xyz
    return longest + float(np.sqrt(width_mm * height_mm)), _perpendicular_mm(inside[level], ends_mm, grid)


def _long_axis(ends: dict[int, Floats]) -> tuple[float, Floats, int]:
    """The longest distance between two points of one slice, these two, and the slice; negative without a point."""
    longest, ends_mm, level = -1.0, np.zeros((2, 2)), 0
    for number, points_mm in ends.items():
        if np.linalg.norm(np.ptp(points_mm, axis=0)) <= longest:
            continue
        x, y = points_mm.T
        between_centers = np.hypot(x[:, None] - x, y[:, None] - y)
        pair = np.unravel_index(between_centers.argmax(), between_centers.shape)
        if between_centers[pair] > longest:
            longest, ends_mm, level = float(between_centers[pair]), points_mm[list(pair)], number
    return longest, ends_mm, level


def _row_ends_mm(inside: npt.NDArray[np.bool_], grid: Grid) -> dict[int, Floats]:
    """By the number of the slice the centres of the voxels at the ends of its rows, [N, 2] mm from the first voxel.

    The ends of a longest distance are among them; x, then y.
    """
    filled: npt.NDArray[np.bool_] = np.asarray(inside.any(axis=2))
    first, last = inside.argmax(axis=2), inside.shape[2] - 1 - inside[:, :, ::-1].argmax(axis=2)
    ends = {}
    for number in np.flatnonzero(filled.any(axis=1)).tolist():
        rows = np.flatnonzero(filled[number])
        x = np.concatenate([first[number, rows], last[number, rows]])
        ends[number] = np.column_stack([x, np.concatenate([rows, rows])]) * grid.spacing_mm_xyz[:2]
    return ends


def _perpendicular_mm(layer_yx: npt.NDArray[np.bool_], ends_mm: Floats, grid: Grid) -> float:
    """The longest distance at right angles to the long axis, where the mask is linearly interpolated to half."""
    pixel_mm = np.array(grid.spacing_mm_xyz[:2])
    along = ends_mm[1] - ends_mm[0]
    length = float(np.linalg.norm(along))
    along = along / length if length else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    step = float(pixel_mm.min()) / _STEPS_PER_PIXEL
    # No perpendicular is longer than the long axis, and it begins on one side of it or the other.
    reach = np.ceil((length + 2 * pixel_mm.max()) / step) * step
    offsets = np.arange(-reach, reach + step / 2, step)
    near = offsets[np.abs(offsets) <= reach / 2]
    points = ends_mm.mean(axis=0) + near[:, None, None] * along + offsets[:, None] * across
    at = map_coordinates(layer_yx.astype(np.float32), np.moveaxis(points / pixel_mm, -1, 0)[::-1], order=1)
    covered = at >= 0.5
    rows = covered[covered.any(axis=1)]
    if not len(rows):
        return float(np.sqrt(pixel_mm.prod()))
    first, last = rows.argmax(axis=1), rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    # On average as many samples are inside as steps fit into the length.
    return float((last - first + 1).max() * step)


def _diameter_3d_mm(ends: dict[int, Floats], grid: Grid) -> float:
    spacing_mm = np.array(grid.spacing_mm_xyz)
    points = np.concatenate([np.column_stack([xy, np.full(len(xy), z * spacing_mm[2])]) for z, xy in ends.items()])
    if len(points) > _MOST_PAIRED:
        # Joggled, because a nodule may be flat.
        points = points[ConvexHull(points, qhull_options="QJ").vertices]
    if len(points) == 1 or not np.ptp(points, axis=0).any():
        return float(spacing_mm.max())
    one, other = np.triu_indices(len(points), 1)
    longest = pdist(points).argmax()
    between = points[one[longest]] - points[other[longest]]
    length = np.linalg.norm(between)
    # From voxel edge to voxel edge: a voxel's extent along the line.
    return float(length + np.linalg.norm(between / length * spacing_mm))
