"""The patches of one CT, read by another process, which never imports TensorFlow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import STRICT, RepairPolicy
from ggn_tf.cases.geometry.grid import Box, Grid, Vector
from ggn_tf.cases.patch_location import Masks, count_nodules, open_ct_of, patch_grid, round_point
from ggn_tf.cases.patches import Patch, cut_patches, move_patch
from ggn_tf.cases.reader_process import ReaderEndedError, run_in_reader
from ggn_tf.cases.volumes import Volume, naming_case
from ggn_tf.errors import GgnError, LocationError, VolumeError
from ggn_tf.prediction.locations import Location, Point, names_of, numbered
from ggn_tf.prediction.overlay import field_around
from ggn_tf.protocol import PatchProtocol

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class NodulePatch:
    """A nodule's name and patch.

    Attributes:
        block: Hounsfield units of the CT around it; None: they are read when they are needed.
        given_mm_lps: The point around which it was first cut, if its centre has moved.
        moves: How often its centre has moved.
        perhaps_ras: Whether it is around a point of which it is not known whether it was given in LPS.
    """

    name: str
    patch: Patch
    block: sitk.Image | None = None
    given_mm_lps: Vector | None = None
    moves: int = 0
    perhaps_ras: bool = False

    @property
    def given_center_mm_lps(self) -> Vector:
        """The centre before it moved."""
        return self.given_mm_lps or self.patch.center_mm_lps


def open_patches(
    ct: Path,
    series: str | None,
    locations: Sequence[Location],
    protocol: PatchProtocol,
    repair_policy: RepairPolicy = STRICT,
    margin_mm: float = 0.0,
) -> tuple[Volume, list[NodulePatch]]:
    """Open a CT once and cut the patch of every nodule, also of each nodule in a mask with several.

    Another process reads, whose end is an error like others.

    Args:
        ct: A volume file or a DICOM folder.
        series: SeriesInstanceUID; None takes the series that contains the first location.
        locations: At least one.
        protocol: The patch that the model takes.
        repair_policy: What may be repaired instead of being rejected.
        margin_mm: How far the centre of a point's patch may move until more of the CT must be read.

    Raises:
        LocationError: There is no location, or a voxel is outside the CT.
        VolumeError, MaskError: The CT or a mask cannot be used.
    """
    return in_reader(ct, read_patches, ct, series, tuple(locations), protocol, repair_policy, margin_mm)


def move_patches(
    volume: Volume, nodules: Sequence[NodulePatch], centers_mm_lps: Sequence[Vector], protocol: PatchProtocol
) -> list[NodulePatch]:
    """Cut the patches of points around other centres: from what was read of the CT, which is not opened again.

    What was not read yet, another process reads.

    Raises:
        VolumeError: The CT cannot be read any more.
    """
    centers = [round_point(volume.grid, center) for center in centers_mm_lps]
    boxes = [block_around(volume.grid, center, patch_grid(center, volume.grid, protocol)) for center in centers]
    known = [_if_covering(box, nodule.block, volume.grid) for nodule, box in zip(nodules, boxes, strict=True)]
    unread = [box for block, box in zip(known, boxes, strict=True) if block is None]
    read = iter(in_reader(volume.path, volume.read_blocks, unread) if unread else [])
    blocks = [next(read) if block is None else block for block in known]
    return [
        replace(
            nodule,
            patch=move_patch(nodule.patch, block, center, protocol),
            block=block,
            given_mm_lps=nodule.given_center_mm_lps,
            moves=nodule.moves + 1,
        )
        for nodule, center, block in zip(nodules, centers, blocks, strict=True)
    ]


def read_patches(
    ct: Path,
    series: str | None,
    locations: Sequence[Location],
    protocol: PatchProtocol,
    repair_policy: RepairPolicy,
    margin_mm: float = 0.0,
) -> tuple[Volume, list[NodulePatch]]:
    """As `open_patches`, in this process."""
    if not locations:
        raise LocationError(
            "There is no nodule to predict.", expected="at least one location", remedy="Give a point, voxel or mask."
        )
    volume = open_ct_of(locations[0].target(), ct, series, repair_policy)
    masks = Masks(volume, repair_policy)
    names, targets, perhaps_ras = [], [], []
    for location, name in zip(locations, names_of(locations), strict=True):
        target = location.target(volume.stored_grid, name if len(locations) > 1 else None)
        with naming_case(target.case):
            count = count_nodules(masks, target)
        names += numbered(name, count)
        perhaps_ras += [isinstance(location, Point) and location.ras is None] * count
        targets += [target] if count == 1 else [target._replace(number=number) for number in range(1, count + 1)]
    patches = cut_patches(volume, targets, protocol, masks=masks)
    margins = [margin_mm if patch.mask is None else 0.0 for patch in patches]
    boxes = [
        block_around(volume.grid, patch.center_mm_lps, patch.grid, margin)
        for patch, margin in zip(patches, margins, strict=True)
    ]
    blocks = volume.read_blocks(boxes)
    return volume, [
        NodulePatch(name, patch, block, perhaps_ras=perhaps)
        for name, patch, block, perhaps in zip(names, patches, blocks, perhaps_ras, strict=True)
    ]


def block_around(ct_grid: Grid, center_mm_lps: Vector, grid: Grid, margin_mm: float = 0.0) -> Box:
    """What the overlay shows around a point, with a margin on every side, and what a patch's grid covers."""
    shown = ct_grid.box_around(field_around(center_mm_lps, margin_mm)) or ct_grid.whole
    covered = ct_grid.box_around(grid)
    return shown.joined(covered) if covered else shown


def _if_covering(box: Box, block: sitk.Image | None, ct_grid: Grid) -> sitk.Image | None:
    read = None if block is None else ct_grid.block_of(Grid.from_image(block))
    return block if read is not None and read.joined(box) == read else None


def in_reader(ct: Path, function: Callable[..., _Result], *arguments: object) -> _Result:
    """Run a function that reads a CT in another process; the end of that process is an error about the CT.

    Arguments and result can be pickled; the CT is for the error.

    Raises:
        VolumeError: The process ended, or raised what is not one of the product's errors.
    """
    try:
        return run_in_reader(function, *arguments)
    except ReaderEndedError as error:
        raise VolumeError(
            "The process that read the CT ended.",
            case=ct,
            found=f"{error}, while it read the CT and the masks",
            expected="files that can be read within the memory of this machine",
            remedy="Export the CT and the masks again; if memory ran out, use a machine with more.",
        ) from error
    except (GgnError, OSError, MemoryError):
        raise
    except Exception as error:
        # Readers of damaged files raise any type.
        raise VolumeError(
            "The CT or a mask cannot be read.",
            case=ct,
            found=f"{type(error).__name__}: {error}",
            expected="undamaged files",
            remedy="Export the CT and the masks again.",
        ) from error
