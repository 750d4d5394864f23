"""CT volumes in Hounsfield units: NIfTI, NRRD, MetaImage or a folder of DICOM slices, of which only a part is read."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.folder import is_dicom, read_slices, scan_series
from ggn_tf.cases.dicom.repair import SlicePositions
from ggn_tf.cases.dicom.series import ANY, SeriesQuery
from ggn_tf.cases.dicom.stack import Stack
from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.tables.image_identity import missing_text
from ggn_tf.cases.volume_files.headers import (
    FORMATS,
    UNREADABLE,
    checked_reader,
    placement_notes,
    read_header,
    read_nifti_grid,
    reason,
)
from ggn_tf.cases.volume_files.nifti import NiftiForms, is_nifti, read_blocks
from ggn_tf.cases.volume_files.stated_geometry import DIRECTIONS, POSITION, unstated_geometry
from ggn_tf.errors import GgnError, VolumeError
from ggn_tf.protocol import AIR_HU

# Of blocks around nodules, which have some million.
_MOST_VOXELS_READ = 2**29


@dataclass(frozen=True)
class Volume:
    """A CT whose header was read and whose voxels are still on the disk.

    Attributes:
        path: The file, or the DICOM folder.
        stored_grid: The positions of its voxels in the order of the file or of the slices.
        stack: The DICOM slices; None for a volume file.
        positions: The true positions of the slices, if they were repaired; else None.
        forms: The qform and sform of a NIfTI file, if they differ; else None. The sform was read.
        notes: What the header of a volume file leaves open.
    """

    path: Path
    stored_grid: Grid
    stack: Stack | None = None
    positions: SlicePositions | None = None
    forms: NiftiForms | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def axes(self) -> AxisOrder:
        """How the stored axes become those nearest to L, P and S, which every reader of a volume sees."""
        return AxisOrder.of(self.stored_grid)

    @cached_property
    def grid(self) -> Grid:
        """The positions of its voxels, with the axes nearest to L, P and S in this order and direction."""
        return self.axes.grid

    @property
    def repaired(self) -> tuple[str, ...]:
        """What was wrong with the slices or the header, and was repaired or decided."""
        forms = () if self.forms is None else (f"the CT: its sform was read; {self.forms}",)
        problems = self.stack.problems if self.stack else ()
        return (*forms, *self.notes, *(problem.found for problem in problems))

    @property
    def series(self) -> str | None:
        """SeriesInstanceUID; None for a volume file."""
        return self.stack.slices[0].series if self.stack else None

    @property
    def contrast_agent(self) -> bool:
        """Whether the series' headers name one; volume files do not contain this."""
        return self.stack is not None and any(item.contrast_agent for item in self.stack.slices)

    @property
    def slices(self) -> tuple[Path, ...]:
        """The DICOM files in the order of the z axis; empty for a volume file."""
        return tuple(item.path for item in self.stack.slices) if self.stack else ()

    def read(self, box: Box | None = None) -> sitk.Image:
        """Read a block of voxels, or all.

        Args:
            box: Voxels of `grid`.

        Returns:
            float32 Hounsfield units (with rescale slope and intercept) on the block's own grid. Values below air
            (-1024 HU) become air: scanners and exporters write -2000 or -3024 where nothing was measured, and
            interpolation between such a voxel and its neighbour would invent values.

        Raises:
            VolumeError: The file is damaged, or a voxel of the block is not a finite number.
        """
        return self.read_blocks([box or self.grid.whole])[0]

    def read_blocks(self, boxes: Sequence[Box]) -> list[sitk.Image]:
        """Read several blocks, as `read`; a compressed file is decompressed once."""
        count = sum(math.prod(box.size_xyz) for box in boxes)
        if count > _MOST_VOXELS_READ:
            raise VolumeError(
                "The CT's voxels are far smaller than those of any scanner.",
                case=self.path,
                found=f"{count} voxels around the nodule, {self.grid}",
                expected=f"at most {_MOST_VOXELS_READ}",
                remedy="Check the spacing in the header, and export the CT again.",
            )
        try:
            stored = self._stored([self.axes.stored_box(box) for box in boxes])
        except UNREADABLE as error:
            raise VolumeError(
                "The volume's voxels cannot be read.",
                case=self.path,
                found=reason(error),
                expected=f"{self.grid}",
                remedy="The file is damaged or incomplete: copy or export it again.",
            ) from error
        blocks = [self.axes.from_stored(block) for block in stored]
        for block in blocks:
            _check_finite(self.path, block)
        return [
            self.grid.part(box).image_of(np.maximum(block, AIR_HU, dtype=np.float32))
            for box, block in zip(boxes, blocks, strict=True)
        ]

    def on_slices(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Labels of the CT's voxels on the DICOM slices at their true positions, also if these were repaired.

        Takes [z, y, x], of the size of `stored_grid`.

        Returns:
            [slice, y, x], in the order of the stack.
        """
        return labels if self.positions is None else self.positions.on_slices(labels)

    def stored_image(self, labels: npt.NDArray[Any]) -> sitk.Image:
        """An image with the axes in the order of the file.

        Takes [z, y, x], of the size of `grid`.
        """
        return self.stored_grid.image_of(self.axes.to_stored(labels))

    def _stored(self, boxes: Sequence[Box]) -> list[npt.NDArray[Any]]:
        if self.stack is not None:
            return [self._of_slices(self.stack, box) for box in boxes]
        if is_nifti(self.path):
            return read_blocks(self.path, self.stored_grid.size_xyz, boxes)
        return [read_voxels(self.path, self.stored_grid, box) for box in boxes]

    def _of_slices(self, stack: Stack, box: Box) -> npt.NDArray[Any]:
        if self.positions is not None:
            slices = stack.slices
            return self.positions.read(lambda first, end: read_slices(slices[first:end]), box)
        first, depth = box.start_xyz[2], box.size_xyz[2]
        rows, columns = box.slices_zyx[1:]
        return read_slices(stack.slices[first : first + depth], rows, columns)


def open_volume(path: Path, query: SeriesQuery = ANY, *, repair: bool = False) -> Volume:
    """Read a volume's header, or for a DICOM folder the headers of its slices.

    Args:
        path: A volume file, a DICOM folder, its DICOMDIR, or a multi-frame DICOM file.
        query: Selects the CT series where the folder contains several.
        repair: Whether slices with a gantry tilt or non-uniform spacing are resampled onto a regular grid.

    Raises:
        VolumeError: There is no such path, it is not a 3D volume with one value per voxel, its axes are not at right
            angles, or the DICOM slices do not make a volume.
    """
    path = Path(path)
    refuse_missing_ct(path)
    if path.is_dir() or (not is_nifti(path) and is_dicom(path)):
        stack, grid = scan_series(path, query, repair=repair)
        positions = SlicePositions.of(stack) if stack.problems else None
        return Volume(path, positions.grid if positions else grid, stack, positions)
    if is_nifti(path):
        grid, forms, oriented = read_nifti_grid(path)
        missing = () if oriented else (DIRECTIONS, POSITION)
        return Volume(path, grid, forms=forms, notes=placement_notes(grid, missing))
    grid = read_header(path)
    return Volume(path, grid, notes=placement_notes(grid, unstated_geometry(path)))


def refuse_missing_ct(path: Path, remedy: str = "Correct the path.") -> None:
    """Raise a VolumeError where there is no such path."""
    if not path.exists():
        raise VolumeError(
            "The CT does not exist.",
            case=path,
            found=missing_text(path),
            expected=FORMATS,
            remedy=remedy,
        )


@contextmanager
def naming_case(case: str | None) -> Iterator[None]:
    """Put a case's name before the file's in the errors that a block raises."""
    try:
        yield
    except GgnError as error:
        if case is not None:
            error.case = case if error.case is None else f"{case} ({error.case})"
        raise


def read_voxels(path: Path, grid: Grid, box: Box) -> npt.NDArray[Any]:
    """A block of a volume file, of a CT or of a mask.

    Returns:
        [z, y, x] in the file's type.

    Raises:
        RuntimeError, ValueError, EOFError, OSError, zlib.error: The file is damaged (all of them in `UNREADABLE`).
    """
    if is_nifti(path):
        return read_blocks(path, grid.size_xyz, [box])[0]
    reader = checked_reader(path)
    reader.SetExtractIndex(box.start_xyz)
    reader.SetExtractSize(box.size_xyz)
    voxels: npt.NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    return voxels


def _check_finite(path: Path, voxels: npt.NDArray[Any]) -> None:
    finite = np.isfinite(voxels)
    if not finite.all():
        bad = int(finite.size - np.count_nonzero(finite))
        raise VolumeError(
            "The volume contains voxels that are NaN or infinite.",
            case=path,
            found=f"{bad} of {finite.size} voxels around the nodule",
            expected="finite Hounsfield units",
            remedy=f"Export the CT again without masking, or write {AIR_HU:g} (air) where it has no value.",
        )
