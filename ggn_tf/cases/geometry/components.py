"""The components of a mask: which of them are the nodule."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Floats, Grid, Vector, point_text
from ggn_tf.errors import MaskError

_MOST_LISTED = 8
# A mask in more pieces that fills more than a patch is noise.
_MOST_COMPONENTS = 1000


def select_component(
    mask: sitk.Image, patch_mm_xyz: Sequence[float], center_mm_lps: Vector | None = None
) -> sitk.Image:
    """Keep the components of a mask that are one nodule.

    A nodule drawn in pieces is one nodule: components that a patch's length or less separates belong together, and all
    of them are kept. Where components lie further apart, the mask holds several nodules: the centre tells which one is
    meant, the one of which a voxel is nearest to it.

    Args:
        mask: uint8, 1 in the nodule.
        patch_mm_xyz: The patch's edge lengths.
        center_mm_lps: The nodule's centre, where it is known.

    Returns:
        The mask itself, or one with the chosen nodule alone.

    Raises:
        MaskError: There are several nodules, and no centre.
    """
    grid = Grid.from_image(mask)
    # What fits into a patch has no parts further apart than that.
    if np.all(np.multiply(grid.size_xyz, grid.spacing_mm_xyz) <= patch_mm_xyz):
        return mask
    components = sitk.ConnectedComponent(mask, True)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.Execute(components)
    labels = np.array(shapes.GetLabels())
    if len(labels) > _MOST_COMPONENTS:
        raise MaskError(
            f"The mask is in {len(labels)} pieces.",
            expected=f"a nodule, of at most {_MOST_COMPONENTS}",
            remedy="Clean the segmentation: keep the nodule and nothing else.",
        )
    boxes = np.array([shapes.GetBoundingBox(int(label)) for label in labels])
    groups = _groups(boxes, np.divide(patch_mm_xyz, grid.spacing_mm_xyz))
    if len(set(groups)) == 1:
        return mask
    numbers = sitk.GetArrayFromImage(components)
    places = {
        group: np.argwhere(np.isin(numbers, labels[groups == group]))[:, ::-1] for group in sorted(set(groups.tolist()))
    }
    if center_mm_lps is None:
        raise _several(grid, places)
    nearest = min(
        places, key=lambda group: float(np.linalg.norm(grid.point_of(places[group]) - center_mm_lps, axis=1).min())
    )
    kept = np.isin(numbers, labels[groups == nearest])
    return grid.image_of(kept.astype(np.uint8))


def _groups(boxes: np.ndarray, reach_xyz: Floats) -> np.ndarray:
    """The number of the group that each component belongs to, of those that near components join."""
    start, end = boxes[:, :3], boxes[:, :3] + boxes[:, 3:]
    gaps = np.maximum(start[:, None] - end[None], start[None] - end[:, None])
    near = np.all(gaps <= reach_xyz, axis=-1)
    groups = np.arange(len(boxes))
    # Every round hands the smallest number on to the neighbours, until none changes.
    while True:
        joined = np.where(near, groups[None], len(boxes)).min(axis=1)
        if np.array_equal(joined, groups):
            return groups
        groups = joined


def _several(grid: Grid, places: dict[int, np.ndarray]) -> MaskError:
    voxel_mm3 = float(np.prod(grid.spacing_mm_xyz))
    largest = sorted(places.values(), key=len, reverse=True)
    listed = [
        f"{len(place) * voxel_mm3:.0f} mm3 at {point_text(grid.point_of(place.mean(axis=0)))}" for place in largest
    ]
    more = [f"and {len(listed) - _MOST_LISTED} more"] if len(listed) > _MOST_LISTED else []
    return MaskError(
        f"The mask holds {len(places)} nodules.",
        found="; ".join([*listed[:_MOST_LISTED], *more]) + " (LPS mm)",
        expected="parts that lie no further apart than a patch is long",
        remedy="Give the nodule's centre: in the table's columns center_x_mm, center_y_mm and center_z_mm, or with "
        "--center-mm instead of the mask. Or give a segment of its own to each.",
    )
