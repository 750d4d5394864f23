"""The components of a mask: which of them are the nodule."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy.sparse.csgraph import connected_components

from ggn_tf.cases.geometry.grid import Floats, Grid, Vector, point_text
from ggn_tf.errors import MaskError

_MOST_LISTED = 8
# A mask in more pieces that fills more than a patch is noise.
_MOST_COMPONENTS = 1000


def select_component(
    mask: sitk.Image, patch_mm_xyz: Sequence[float], center_mm_lps: Vector | None = None
) -> sitk.Image:
    """Keep the components of a mask that are one nodule.

    A nodule drawn in pieces is one nodule: components at most a patch's length apart belong together, and all of them
    are kept. If components are further apart, the mask contains several nodules, and the one with the voxel closest to
    the centre is chosen.

    Args:
        mask: uint8, 1 in the nodule.
        patch_mm_xyz: The patch's edge lengths.
        center_mm_lps: The nodule's centre, if it is known.

    Returns:
        The mask itself, or one with only the chosen nodule.

    Raises:
        MaskError: There are several nodules and no centre, or too many components.
    """
    grid = Grid.from_image(mask)
    # Components of a mask that fits into a patch cannot be further apart.
    if np.all(np.multiply(grid.size_xyz, grid.spacing_mm_xyz) <= patch_mm_xyz):
        return mask
    components = sitk.ConnectedComponent(mask, True)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.Execute(components)
    labels = np.array(shapes.GetLabels())
    if len(labels) > _MOST_COMPONENTS:
        raise MaskError(
            f"The mask is in {len(labels)} pieces.",
            expected=f"a nodule in at most {_MOST_COMPONENTS} pieces",
            remedy="Clean the segmentation: keep only the nodule.",
        )
    boxes = np.array([shapes.GetBoundingBox(int(label)) for label in labels])
    groups = _groups(boxes, np.divide(patch_mm_xyz, grid.spacing_mm_xyz))
    if len(set(groups)) == 1:
        return mask
    numbers = sitk.GetArrayFromImage(components)
    voxels_by_group = {
        group: np.argwhere(np.isin(numbers, labels[groups == group]))[:, ::-1] for group in sorted(set(groups.tolist()))
    }
    if center_mm_lps is None:
        raise _several(grid, voxels_by_group)
    distances_mm = {
        group: np.linalg.norm(grid.point_of(voxels) - center_mm_lps, axis=1).min()
        for group, voxels in voxels_by_group.items()
    }
    nearest = min(distances_mm, key=distances_mm.__getitem__)
    kept = np.isin(numbers, labels[groups == nearest])
    return grid.image_of(kept.astype(np.uint8))


def _groups(boxes: np.ndarray, reach_xyz: Floats) -> np.ndarray:
    """The number of each component's group: components near each other share one."""
    start, end = boxes[:, :3], boxes[:, :3] + boxes[:, 3:]
    gaps = np.maximum(start[:, None] - end[None], start[None] - end[:, None])
    groups: np.ndarray = connected_components(np.all(gaps <= reach_xyz, axis=-1), directed=False)[1]
    return groups


def _several(grid: Grid, voxels_by_group: dict[int, np.ndarray]) -> MaskError:
    voxel_mm3 = float(np.prod(grid.spacing_mm_xyz))
    largest = sorted(voxels_by_group.values(), key=len, reverse=True)
    listed = [
        f"{len(voxels) * voxel_mm3:.0f} mm3 at {point_text(grid.point_of(voxels.mean(axis=0)))}" for voxels in largest
    ]
    more = [f"and {len(listed) - _MOST_LISTED} more"] if len(listed) > _MOST_LISTED else []
    return MaskError(
        f"The mask contains {len(voxels_by_group)} nodules.",
        found="; ".join([*listed[:_MOST_LISTED], *more]) + " (LPS mm)",
        expected="parts at most a patch's length apart",
        remedy="Give the nodule's centre (in a case table: center_x_mm, center_y_mm, center_z_mm), or draw each nodule "
        "as its own segment.",
        arguments=("center_mm",),
    )
