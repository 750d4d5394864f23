"""The nodules of a mask: its connected components, joined where they are close to each other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import find_objects, label

from ggn_tf.cases.geometry.grid import Grid, Vector, point_text
from ggn_tf.errors import MaskError

if TYPE_CHECKING:
    from scipy.spatial import KDTree

# A gap that a brush left is within it, and so is a slice that was not drawn, if slices are at most this far apart; the
# closest neighbours in a lung are not.
ONE_NODULE_MM = 3.0
# What is smaller than this share of the largest nodule is left over from drawing or thresholding.
_SMALLEST_SHARE = 0.05
_MOST_LISTED = 8
# A mask in more pieces is noise.
_MOST_COMPONENTS = 1000
_ROUNDING_MM = 1e-6


@dataclass(frozen=True)
class Nodules:
    """The nodules of a mask, the largest first.

    Attributes:
        image: The mask: uint8, 0 or 1.
        numbers: [z, y, x], 0 or the number of the nodule from 1.
        voxels: Number of voxels of each.
        dropped: Number of voxels of each remnant, which is not a nodule.
    """

    image: sitk.Image
    numbers: npt.NDArray[np.integer]
    voxels: tuple[int, ...]
    dropped: tuple[int, ...] = ()

    @property
    def grid(self) -> Grid:
        """The mask's grid."""
        return Grid.from_image(self.image)

    def without_remnants(self) -> "Nodules":
        """The same mask without what is smaller than 5 % of the largest nodule."""
        kept = tuple(count for count in self.voxels if count >= _SMALLEST_SHARE * self.voxels[0])
        if len(kept) == len(self.voxels):
            return self
        numbers = np.where(self.numbers <= len(kept), self.numbers, 0)
        return Nodules(self.image, numbers, kept, self.voxels[len(kept) :])

    def at(self, point_mm_lps: Vector) -> int:
        """The number of the nodule in whose voxel a point is, or 0."""
        if not self.grid.covers(point_mm_lps):
            return 0
        x, y, z = np.rint(self.grid.index_of(point_mm_lps)).astype(int)
        return int(self.numbers[z, y, x])

    def nearest_to(self, point_mm_lps: Vector) -> int:
        """The number of the nodule with the voxel closest to a point."""
        voxels_zyx = np.argwhere(self.numbers > 0)
        distances = np.linalg.norm(self.grid.point_of(voxels_zyx[:, ::-1]) - point_mm_lps, axis=1)
        return int(self.numbers[tuple(voxels_zyx[distances.argmin()])])

    def mask(self, number: int) -> sitk.Image:
        """One nodule: uint8, 0 or 1; the whole mask itself if there is nothing else in it."""
        if len(self.voxels) == 1 and not self.dropped:
            return self.image
        return self.grid.image_of((self.numbers == number).astype(np.uint8))


def find_nodules(mask: sitk.Image, *, joined: bool = False) -> Nodules:
    """Find the nodules of a mask: components up to 3 mm apart, edge to edge, are one.

    Takes uint8, not empty. If they are `joined`, all components are one nodule, however far apart.

    Raises:
        MaskError: There are too many components.
    """
    inside = sitk.GetArrayViewFromImage(mask)
    components, count = (inside, 1) if joined else label(inside, np.ones((3, 3, 3)))
    if count > _MOST_COMPONENTS:
        raise MaskError(
            f"The mask is in {count} pieces.",
            expected=f"a nodule in at most {_MOST_COMPONENTS} pieces",
            remedy="Clean the segmentation: keep only the nodule.",
        )
    group_of = np.zeros(count + 1, dtype=int)
    group_of[1:] = _groups(components, count, Grid.from_image(mask)) + 1
    voxels = np.bincount(group_of[components.ravel()])[1:] if count > 1 else np.array([np.count_nonzero(components)])
    order = np.argsort(-voxels, kind="stable")
    rank = np.zeros(len(voxels) + 1, dtype=int)
    rank[order + 1] = np.arange(1, len(voxels) + 1)
    numbers = rank[group_of][components] if count > 1 else components
    return Nodules(mask, numbers, tuple(voxels[order].tolist()))


def refuse_several(nodules: Nodules) -> None:
    """Raise MaskError, with size and centre of each, for several nodules where one is needed."""
    if len(nodules.voxels) == 1:
        return
    grid = nodules.grid
    listed = []
    for number, count in enumerate(nodules.voxels[:_MOST_LISTED], start=1):
        center = grid.point_of(np.argwhere(nodules.numbers == number).mean(axis=0)[::-1])
        listed.append(f"{count * np.prod(grid.spacing_mm_xyz):.0f} mm3 at {point_text(center)}")
    more = [f"and {len(nodules.voxels) - _MOST_LISTED} more"] if len(nodules.voxels) > _MOST_LISTED else []
    raise MaskError(
        f"The mask contains {len(nodules.voxels)} nodules.",
        found="; ".join([*listed, *more]) + " (LPS mm)",
        expected=f"one nodule, of parts at most {ONE_NODULE_MM:g} mm apart",
        remedy="Give the nodule's centre (in a case table: center_x_mm, center_y_mm, center_z_mm), or draw each nodule "
        "as its own segment.",
        arguments=("center_mm",),
    )


def _groups(components: npt.NDArray[np.integer], count: int, grid: Grid) -> npt.NDArray[np.integer]:
    """The group of each component, from 0: components near each other share one."""
    if count == 1:
        return np.zeros(1, dtype=int)
    # Imported here: most masks are in one piece, and do not need a tenth of a second more.
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    boxes = [item for item in find_objects(components) if item is not None]
    starts = np.array([[axis.start for axis in box] for box in boxes]) * grid.spacing_mm_zyx
    ends = np.array([[axis.stop for axis in box] for box in boxes]) * grid.spacing_mm_zyx
    gaps_mm = np.maximum(starts[:, None] - ends[None], starts[None] - ends[:, None]).clip(0)
    near = np.linalg.norm(gaps_mm, axis=-1) <= ONE_NODULE_MM + _ROUNDING_MM
    pairs = np.argwhere(np.triu(near, 1))
    trees = {
        number: KDTree(_corners_mm(components, boxes[number], number + 1, grid))
        for number in set(pairs.ravel().tolist())
    }
    for first, second in pairs.tolist():
        near[first, second] = near[second, first] = _within_reach(trees[first], trees[second])
    found: npt.NDArray[np.integer] = connected_components(near, directed=False)[1]
    return found


def _within_reach(one: "KDTree", other: "KDTree") -> bool:
    distances, _ = one.query(other.data, distance_upper_bound=ONE_NODULE_MM + 2 * _ROUNDING_MM)
    return bool(distances.min() <= ONE_NODULE_MM + _ROUNDING_MM)


def _corners_mm(
    components: npt.NDArray[np.integer], box: tuple[slice, ...], number: int, grid: Grid
) -> npt.NDArray[np.float64]:
    """The corners of a component's voxels, [N, 3]. Boxes of one lattice are as far apart as their nearest corners."""
    inside = np.pad(components[box] == number, 1)
    corner = np.zeros(np.subtract(inside.shape, 1), dtype=np.uint8)
    for shift in np.ndindex(2, 2, 2):
        corner += inside[tuple(slice(step, step + size) for step, size in zip(shift, corner.shape, strict=True))]
    # Corners with eight voxels around them are inside.
    surface_zyx = np.argwhere((corner > 0) & (corner < 8)) + [axis.start for axis in box]
    corners_mm: npt.NDArray[np.float64] = surface_zyx * np.asarray(grid.spacing_mm_zyx)
    return corners_mm
