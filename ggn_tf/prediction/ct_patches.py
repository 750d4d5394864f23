"""The patches of one CT, read by another process, which never imports TensorFlow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import STRICT, RepairPolicy
from ggn_tf.cases.geometry.grid import Box
from ggn_tf.cases.patch_location import Masks, count_nodules, open_ct_of
from ggn_tf.cases.patches import Patch, cut_patches
from ggn_tf.cases.reader_process import ReaderEndedError, run_in_reader
from ggn_tf.cases.volumes import Volume, naming_case
from ggn_tf.errors import LocationError, VolumeError
from ggn_tf.prediction.locations import Location, names_of, numbered
from ggn_tf.prediction.overlay import field_around
from ggn_tf.protocol import PatchProtocol


@dataclass(frozen=True)
class NodulePatch:
    """A nodule's name and patch.

    Attributes:
        name: The nodule's name.
        patch: Its patch.
        block: Hounsfield units of the CT around it; None: they are read when they are needed.
    """

    name: str
    patch: Patch
    block: sitk.Image | None = None


def open_patches(
    ct: Path,
    series: str | None,
    locations: Sequence[Location],
    protocol: PatchProtocol,
    repair_policy: RepairPolicy = STRICT,
) -> tuple[Volume, list[NodulePatch]]:
    """Open a CT once and cut the patch of every nodule, also of each nodule in a mask with several.

    Another process reads, whose end is an error like others.

    Args:
        ct: A volume file or a DICOM folder.
        series: SeriesInstanceUID; None takes the series that contains the first location.
        locations: At least one.
        protocol: The patch that the model takes.
        repair_policy: What may be repaired instead of being rejected.

    Raises:
        LocationError: There is no location, or a voxel is outside the CT.
        VolumeError, MaskError: The CT or a mask cannot be used.
    """
    try:
        return run_in_reader(read_patches, ct, series, tuple(locations), protocol, repair_policy)
    except ReaderEndedError as error:
        raise VolumeError(
            "The process that read the CT ended.",
            case=ct,
            found=f"{error}, while it read the CT and the masks",
            expected="files that can be read within the memory of this machine",
            remedy="Export the CT and the masks again; if memory ran out, use a machine with more.",
        ) from error


def read_patches(
    ct: Path, series: str | None, locations: Sequence[Location], protocol: PatchProtocol, repair_policy: RepairPolicy
) -> tuple[Volume, list[NodulePatch]]:
    """As `open_patches`, in this process."""
    if not locations:
        raise LocationError(
            "There is no nodule to predict.", expected="at least one location", remedy="Give a point, voxel or mask."
        )
    volume = open_ct_of(locations[0].target(), ct, series, repair_policy)
    masks = Masks(volume, repair_policy)
    names, targets = [], []
    for location, name in zip(locations, names_of(locations), strict=True):
        target = location.target(volume.stored_grid, name if len(locations) > 1 else None)
        with naming_case(target.case):
            count = count_nodules(masks, target)
        names += numbered(name, count)
        targets += [target] if count == 1 else [target._replace(number=number) for number in range(1, count + 1)]
    patches = cut_patches(volume, targets, protocol, repair_policy, masks=masks)
    blocks = volume.read_blocks([block_around(patch) or volume.grid.whole for patch in patches])
    return volume, list(map(NodulePatch, names, patches, blocks))


def block_around(patch: Patch) -> Box | None:
    """What the overlay shows and the patch covers."""
    shown = patch.ct_grid.box_around(field_around(patch.center_mm_lps))
    covered = patch.ct_grid.box_around(patch.grid)
    return shown.joined(covered) if shown and covered else shown
