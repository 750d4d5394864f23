"""Where the nodules of a CT are: points, voxels or masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.cases.geometry.grid import Grid, vector
from ggn_tf.cases.markups import lps_of_ras, read_markups
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.errors import LocationError


@dataclass(frozen=True)
class Point:
    """A nodule's centre in mm, in DICOM's patient coordinates.

    Example:
        >>> Point(31.5, -12, -104, ras=True).target()
        NoduleTarget(mask_path=None, segment=None, center_mm_lps=(-31.5, 12.0, -104.0), case=None, number=None)

    Attributes:
        x, y, z: Coordinates in LPS.
        name: The nodule's name in the result.
        ras: Whether the coordinates are RAS, as 3D Slicer shows them. None: they are taken as LPS, and a warning about
            the nodule's place says that they may be RAS.
    """

    x: float
    y: float
    z: float
    name: str | None = None
    ras: bool | None = None

    def target(self, grid: Grid | None = None, case: str | None = None) -> NoduleTarget:
        """The centre for `cut_patches`; `case` names it in errors."""
        point = (float(self.x), float(self.y), float(self.z))
        return NoduleTarget(center_mm_lps=lps_of_ras(point) if self.ras else point, case=case)


@dataclass(frozen=True)
class Voxel:
    """A nodule's centre as a voxel of the CT, counted from 0.

    Attributes:
        x, y, z: Column, row and slice.
        name: The nodule's name in the result.
    """

    x: int
    y: int
    z: int
    name: str | None = None

    def target(self, grid: Grid | None = None, case: str | None = None) -> NoduleTarget:
        """The centre for `cut_patches`; no point where the grid is not known yet.

        Raises:
            LocationError: The voxel is outside the CT.
        """
        if grid is None:
            return NoduleTarget(case=case)
        index = (self.x, self.y, self.z)
        if not all(0 <= step < size for step, size in zip(index, grid.size_xyz, strict=True)):
            raise LocationError(
                "The voxel is outside the CT.",
                case=case,
                found=f"voxel {index}",
                expected=f"from (0, 0, 0) to {tuple(size - 1 for size in grid.size_xyz)}, in the order x, y, z",
                remedy="Count voxels from 0, and give column, row and slice in this order.",
            )
        return NoduleTarget(center_mm_lps=vector(grid.point_of(index)), case=case)


@dataclass(frozen=True)
class Mask:
    """The mask of a nodule, or of several, largest first; the centroid of each becomes the centre of a patch.

    Attributes:
        path: A volume file, a DICOM segmentation or a DICOM structure set.
        segment: Name or value of the nodule in a mask with several segments.
        name: The nodule's name in the result; None for the segment's.
    """

    path: str | Path
    segment: str | None = None
    name: str | None = None

    def target(self, grid: Grid | None = None, case: str | None = None) -> NoduleTarget:
        """The mask for `cut_patches`."""
        return NoduleTarget(Path(self.path), self.segment, case=case)


Location = Point | Voxel | Mask


def read_points(path: str | Path, *, line_midpoints: bool = False) -> list[Point]:
    """The points of a markups file that 3D Slicer saved (.mrk.json, .fcsv), in any of its coordinate systems.

    Args:
        path: The file.
        line_midpoints: Whether a line, such as a diameter that was measured, is replaced by its midpoint.

    Raises:
        LocationError: The file cannot be read, contains no placed point, or a markup that is not a point list.
    """
    points = read_markups(Path(path), line_midpoints=line_midpoints)
    return [Point(*point.center_mm_lps, name=point.label or None, ras=False) for point in points]


def names_of(locations: Sequence[Location]) -> list[str]:
    """The names of the nodules; those without one are numbered."""
    names = []
    for number, location in enumerate(locations, start=1):
        segment = location.segment if isinstance(location, Mask) else None
        alone = isinstance(location, Mask) and len(locations) == 1
        names.append(location.name or segment or ("nodule" if alone else f"nodule {number}"))
    return names


def numbered(name: str, count: int) -> list[str]:
    """The names of the nodules of one location: its own name, with a number where there are several."""
    return [name] if count == 1 else [f"{name} {number}" for number in range(1, count + 1)]
