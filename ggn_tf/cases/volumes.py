"""CT volumes in Hounsfield units: NIfTI, NRRD, MetaImage or a folder of DICOM slices, read no further than needed."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.folder import is_dicom, read_slices, scan_series
from ggn_tf.cases.dicom.repair import SlicePositions
from ggn_tf.cases.dicom.series import ANY, SeriesQuery
from ggn_tf.cases.dicom.slices import AIR_HU
from ggn_tf.cases.dicom.stack import Stack
from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.headers import FORMATS, read_header, reason
from ggn_tf.cases.nifti import is_nifti, read_blocks
from ggn_tf.errors import GgnError, VolumeError

# What readers raise on damaged files.
UNREADABLE = (RuntimeError, ValueError, EOFError, OSError, zlib.error)


@dataclass(frozen=True)
class Volume:
    """A CT whose header is known and whose voxels are still on the disk.

    Attributes:
        path: The file, or the DICOM folder.
        grid: Where its voxels lie.
        stack: The DICOM slices; None for a volume file.
        course: Where the slices stand, if they had to be put in their places; else None.
    """

    path: Path
    grid: Grid
    stack: Stack | None = None
    course: SlicePositions | None = None

    @property
    def repaired(self) -> tuple[str, ...]:
        """What was wrong with the slices and was put right."""
        return tuple(problem.found for problem in self.stack.problems) if self.stack else ()

    @property
    def contrast_agent(self) -> bool:
        """Whether the series' headers tell of one; volume files do not tell."""
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
            float32 Hounsfield units (the rescale slope and intercept are applied) on the block's own grid. What is
            below air (-1024 HU) is air: scanners and exporters put -2000, -3024 and the like where nothing was
            measured, and between such a voxel and its neighbour interpolation would invent values.

        Raises:
            VolumeError: The file is damaged, or a voxel of the block is not a finite number.
        """
        return self.read_blocks([box or self.grid.whole])[0]

    def read_blocks(self, boxes: Sequence[Box]) -> list[sitk.Image]:
        """Read several blocks, of a compressed file at once; as `read`."""
        try:
            blocks = self._stored(boxes)
        except UNREADABLE as error:
            raise VolumeError(
                "The volume's voxels cannot be read.",
                case=self.path,
                found=reason(error),
                expected=f"{self.grid}",
                remedy="The file is damaged or incomplete: copy or export it again.",
            ) from error
        for block in blocks:
            _check_finite(self.path, block)
        return [
            self.grid.part(box).image_of(np.maximum(block, AIR_HU, dtype=np.float32))
            for box, block in zip(boxes, blocks, strict=True)
        ]

    def on_slices(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Labels of the CT's voxels on the DICOM slices as they stand, also where these had to be put in their places.

        Args:
            labels: [z, y, x], of the grid's size.

        Returns:
            [slice, y, x], in the order of the stack.
        """
        return labels if self.course is None else self.course.on_slices(labels)

    def _stored(self, boxes: Sequence[Box]) -> list[npt.NDArray[Any]]:
        if self.stack is not None:
            return [self._of_slices(self.stack, box) for box in boxes]
        if is_nifti(self.path):
            return read_blocks(self.path, self.grid.size_xyz, boxes)
        return [read_voxels(self.path, self.grid, box) for box in boxes]

    def _of_slices(self, stack: Stack, box: Box) -> npt.NDArray[Any]:
        if self.course is not None:
            slices = stack.slices
            return self.course.read(lambda first, end: read_slices(slices[first:end]), box)
        first, depth = box.start_xyz[2], box.size_xyz[2]
        rows, columns = box.slices_zyx[1:]
        return read_slices(stack.slices[first : first + depth])[:, rows, columns]


def open_volume(path: Path, wanted: SeriesQuery = ANY, *, repair: bool = False) -> Volume:
    """Read a volume's header, or for a DICOM folder the headers of its slices.

    Args:
        path: A volume file, a DICOM folder, its DICOMDIR, or a multi-frame DICOM file.
        wanted: What tells which CT series is meant where the folder holds several.
        repair: Whether slices at uneven distances or of a tilted gantry are put in their places.

    Raises:
        VolumeError: Nothing there, not a 3D volume of one value a voxel, axes not at right angles, or DICOM slices
            that do not make a volume.
    """
    path = Path(path)
    if not path.exists():
        raise VolumeError(
            "The CT does not exist.",
            case=path,
            found="no such file or folder",
            expected=FORMATS,
            remedy="Mend the path; those in a case table are relative to the table.",
        )
    if path.is_dir() or (not is_nifti(path) and is_dicom(path)):
        stack, grid = scan_series(path, wanted, repair=repair)
        course = SlicePositions.of(stack) if stack.problems else None
        return Volume(path, course.grid if course else grid, stack, course)
    return Volume(path, read_header(path))


def read_grid(path: Path) -> Grid:
    """The grid of a volume, from the headers only; as `open_volume`."""
    return open_volume(path).grid


def read_region(path: Path, box: Box) -> sitk.Image:
    """A block of a volume in Hounsfield units, float32; as `Volume.read`."""
    return open_volume(path).read(box)


def read_volume(path: Path) -> sitk.Image:
    """A whole volume in Hounsfield units, float32; as `Volume.read`."""
    return open_volume(path).read()


@contextmanager
def naming_case(case: str | None) -> Iterator[None]:
    """Put a case's name before the file's in the errors of a block."""
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
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetExtractIndex(box.start_xyz)
    reader.SetExtractSize(box.size_xyz)
    voxels: npt.NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    return voxels


def _check_finite(path: Path, voxels: npt.NDArray[Any]) -> None:
    finite = np.isfinite(voxels)
    if not finite.all():
        bad = int(finite.size - np.count_nonzero(finite))
        raise VolumeError(
            "The volume holds voxels that are no numbers.",
            case=path,
            found=f"{bad} of {finite.size} voxels around the nodule are NaN or infinite",
            expected="finite Hounsfield units",
            remedy="Export the CT again without masking, or put -1024 (air) where it has no value.",
        )
