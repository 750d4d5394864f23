"""The nodules of every segment of a mask file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ggn_tf.cases.dicom.bounds import read_bounded
from ggn_tf.cases.dicom.folder import is_dicom
from ggn_tf.cases.dicom.repair import STRICT
from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.components import Nodules
from ggn_tf.cases.geometry.grid import Vector, vector
from ggn_tf.cases.patch_location import Masks
from ggn_tf.cases.segments import list_segments
from ggn_tf.cases.volume_files.headers import grid_of, read_information, read_nifti_grid
from ggn_tf.cases.volume_files.nifti import is_nifti
from ggn_tf.cases.volumes import Volume
from ggn_tf.errors import GgnError, MaskError
from ggn_tf.shown_text import in_spreadsheet

_MOST_VOXELS = 2**30
# In a whole-body segmentation every organ is a segment.
_MOST_SEGMENTS = 32


class FoundNodule(NamedTuple):
    """A nodule of a mask.

    Attributes:
        segment: The segment's name or number; None where the file has one segment without a name.
        center_mm_lps: A point in the nodule; None where it is the segment's only one.
        volume_mm3: Its volume.
    """

    segment: str | None
    center_mm_lps: Vector | None
    volume_mm3: float


def fits(mask: Path, volumes: Sequence[Volume]) -> list[int]:
    """The CTs, by their index, whose voxels contain those of a mask that is not DICOM.

    Raises:
        VolumeError: The mask's header cannot be used.
    """
    grid = read_nifti_grid(mask)[0] if is_nifti(mask) else grid_of(mask, read_information(mask))
    ordered = [AxisOrder.of(grid, volume.grid.direction).grid for volume in volumes]
    return [
        index
        for index, (volume, part) in enumerate(zip(volumes, ordered, strict=True))
        if volume.grid.block_of(part) is not None
    ]


def read_nodules(mask: Path, volume: Volume) -> list[FoundNodule | GgnError]:
    """The nodules of all segments on a CT, the largest of each segment first; an error for each unusable segment.

    Raises:
        MaskError, VolumeError: The file cannot be read at all.
    """
    segments = _dicom_segments(mask) if is_dicom(mask) else list_segments(mask, _MOST_VOXELS)
    if len(segments) > _MOST_SEGMENTS:
        raise MaskError(
            "The mask has far more segments than nodules are in a lung.",
            case=mask,
            found=f"{len(segments)} segments",
            expected=f"at most {_MOST_SEGMENTS}",
            remedy="Export the nodules alone.",
        )
    masks, found = Masks(volume, STRICT), list[FoundNodule | GgnError]()
    for segment in segments:
        try:
            nodules = masks.components(mask, segment)[0].without_remnants()
            found += _nodules(nodules, segment)
        except GgnError as error:
            found.append(error)
    return found


def _nodules(nodules: Nodules, segment: str | None) -> list[FoundNodule]:
    voxel_mm3 = float(np.prod(nodules.grid.spacing_mm_xyz))
    single = len(nodules.voxels) == 1
    return [
        FoundNodule(segment, None if single else _point_in(nodules, number), count * voxel_mm3)
        for number, count in enumerate(nodules.voxels, start=1)
    ]


def _point_in(nodules: Nodules, number: int) -> Vector:
    """The centre of the nodule's voxel nearest to its centroid, which may be outside the nodule."""
    voxels = np.argwhere(nodules.numbers == number)
    nearest = np.linalg.norm((voxels - voxels.mean(axis=0)) * nodules.grid.spacing_mm_zyx, axis=1).argmin()
    return vector(nodules.grid.point_of(voxels[nearest][::-1]))


def _dicom_segments(path: Path) -> list[str | None]:
    """Names of the segments or regions; the number where the name is not unique, or cannot be in a spreadsheet."""
    try:
        header = read_bounded(path)
        listed = header.get("SegmentSequence") or header.get("StructureSetROISequence") or ()
        names = {int(i.get("SegmentNumber", i.get("ROINumber"))): _name(i) for i in listed}
    except Exception as error:  # see `errors_as`
        raise MaskError("The DICOM mask cannot be read.", case=path, found=str(error).splitlines()[0]) from error
    names.pop(0, None)
    count = Counter(names.values())
    plain = {number: count[name] == 1 and name and in_spreadsheet(name) == name for number, name in names.items()}
    return [name if plain[number] else str(number) for number, name in names.items()]


def _name(item: object) -> str:
    text: str = str(getattr(item, "SegmentLabel", "") or getattr(item, "ROIName", ""))
    return text if text == text.strip() else ""
