"""Where the nodules are that a command is asked about, whatever way they were given."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ggn_tf.cases.dicom.repair import STRICT, RepairPolicy
from ggn_tf.cases.geometry.grid import Grid, Vector, vector
from ggn_tf.cases.markups import lps_of_ras, read_markups
from ggn_tf.cases.patch_location import NoduleTarget, open_ct_of
from ggn_tf.cases.volumes import Volume
from ggn_tf.errors import LocationError


class NoduleLocation(NamedTuple):
    """Where a nodule is: one of a point, a voxel of the CT, or a mask, whose centroid is taken.

    Attributes:
        name: What the user calls the nodule.
        center_mm_lps: LPS mm.
        index_xyz: Voxel, from 0.
        mask: Its file.
        segment: Which label of the mask.
    """

    name: str
    center_mm_lps: Vector | None = None
    index_xyz: tuple[int, int, int] | None = None
    mask: Path | None = None
    segment: str | None = None

    def target(self, case: str | None = None) -> NoduleTarget:
        """What `cut_patch` needs of it; `case` is the name in its errors."""
        return NoduleTarget(self.mask, self.segment, self.center_mm_lps, case)


def read_locations(
    mask: Path | None,
    segment: str | None,
    centers_mm: Sequence[Vector],
    ras: bool,
    indices: Sequence[tuple[int, int, int]],
    fiducials: Path | None,
) -> list[NoduleLocation]:
    """The places of a command's options, of which one kind is given.

    Raises:
        PlaceError: The file of fiducials cannot be read.
    """
    if mask is not None:
        return [NoduleLocation(segment or "nodule", mask=mask, segment=segment)]
    if fiducials is not None:
        points = enumerate(read_markups(fiducials), start=1)
        return [NoduleLocation(point.label or f"nodule {number}", point.center_mm_lps) for number, point in points]
    centers = [lps_of_ras(center) if ras else center for center in centers_mm]
    places = [NoduleLocation(f"nodule {number}", center) for number, center in enumerate(centers, start=1)]
    return [
        *places,
        *(NoduleLocation(f"nodule {number}", index_xyz=index) for number, index in enumerate(indices, start=1)),
    ]


def open_ct(
    ct: Path, series: str | None, places: Sequence[NoduleLocation], repair_policy: RepairPolicy = STRICT
) -> tuple[Volume, list[NoduleLocation]]:
    """Open the CT on which the places are, and turn voxels into points.

    Args:
        ct: A volume file or a DICOM folder.
        series: SeriesInstanceUID; None takes the series that holds the first place.
        places: At least one.
        repair_policy: What may be put right instead of being refused.

    Raises:
        VolumeError: The CT cannot be read.
        PlaceError: A voxel lies outside the CT.
    """
    volume = open_ct_of(places[0].target(), ct, series, repair_policy)
    return volume, [_pointed(place, volume.grid) for place in places]


def _pointed(place: NoduleLocation, grid: Grid) -> NoduleLocation:
    if place.index_xyz is None:
        return place
    if not all(0 <= step < size for step, size in zip(place.index_xyz, grid.size_xyz, strict=True)):
        raise LocationError(
            "The voxel lies outside the CT.",
            case=place.name,
            found=f"voxel {place.index_xyz}",
            expected=f"from (0, 0, 0) to {tuple(size - 1 for size in grid.size_xyz)}, in the order x, y, z",
            remedy="Count voxels from 0, and give column, row and slice in this order.",
        )
    return place._replace(center_mm_lps=vector(grid.point_of(place.index_xyz)))
