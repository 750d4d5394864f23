"""Segments in label maps and in 3D Slicer's segmentations (.seg.nrrd), picked by name or by label value."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.geometry.segment import Segment, matching_names, pick_error, unnamed_segment
from ggn_tf.cases.volume_files.headers import (
    UNREADABLE,
    checked_reader,
    grid_of,
    read_information,
    read_nifti_grid,
    reason,
)
from ggn_tf.cases.volume_files.nifti import is_nifti, read_occupied
from ggn_tf.cases.volumes import read_voxels
from ggn_tf.errors import MaskError

# nibabel scales labels into 8 or 16 bits.
_LABEL_TOLERANCE = 0.01
# Of 3D Slicer's metadata, under its former and its present name: what the voxels are.
_REPRESENTATIONS = ("MasterRepresentation", "SourceRepresentation")
# Whole-body segmentations have a hundred.
_MOST_LABELS = 255
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True)
class _Named:
    """The layer of a 3D Slicer segmentation that contains a segment, and the segment's value in it."""

    name: str
    layer: int
    value: float


def read_label_map(path: Path, segment: str | None, most_voxels: int) -> Segment:
    """Read the nodule's segment of a label map.

    Args:
        path: NIfTI, NRRD or MetaImage. 3D Slicer writes overlapping segments into several layers, and only the part
            of the CT's grid that contains them.
        segment: A segment's name, or a label's value. None where there is only one.
        most_voxels: Values of all layers together that a mask of this CT may have.

    Raises:
        VolumeError: The header cannot be used.
        MaskError: It has more voxels, they cannot be read or are not labels, or it is not clear which segment is the
            nodule.
    """
    if is_nifti(path):
        # A mask may be cropped to one slice.
        (grid, forms, _), named, layers = read_nifti_grid(path, least_size=1), [], 1
    else:
        forms = None
        reader = read_information(path)
        _refuse_fractions(path, reader)
        grid, named, layers = grid_of(path, reader), _named_segments(reader), reader.GetNumberOfComponents()
    _refuse_larger(path, grid, layers, most_voxels)
    labels, block = _read_labels(path, grid, layers)
    labels = _whole_numbers(path, labels)
    notes = () if forms is None else (f"the mask: its sform was read; {forms}",)
    if layers == 1 and not (named and segment):
        inside = _of_label_map(path, labels, named, segment)
        return Segment(grid, inside, block, notes=notes, forms_differ=forms is not None)
    if not named:
        raise MaskError(
            "The mask has several values per voxel, and its segments have no names.",
            case=path,
            found=f"{layers} values per voxel",
            expected="a label map, or a segmentation of 3D Slicer",
            remedy="Export the segmentation as one label map (3D Slicer: Export to labelmap).",
        )
    chosen = _pick(path, named, segment, layers)
    layer = labels if layers == 1 else labels[..., chosen.layer]
    return Segment(grid, layer == chosen.value, block)


def list_segments(path: Path, most_voxels: int) -> list[str | None]:
    """The segments of a label map, as `read_label_map` accepts them: names, or label values; [None] for one label.

    Raises:
        VolumeError: The header cannot be used.
        MaskError: The voxels cannot be read or are not labels.
    """
    if is_nifti(path):
        grid, named, layers = read_nifti_grid(path)[0], [], 1
    else:
        reader = read_information(path)
        grid, named, layers = grid_of(path, reader), _named_segments(reader), reader.GetNumberOfComponents()
    if named:
        return [item.name for item in named]
    _refuse_larger(path, grid, layers, most_voxels)
    labels = _whole_numbers(path, _read_labels(path, grid, layers)[0])
    present = np.unique(labels[labels > 0]).tolist()
    return [None] if len(present) <= 1 else [f"{value:g}" for value in present]


def _refuse_larger(path: Path, grid: Grid, layers: int, most_voxels: int) -> None:
    if math.prod(grid.size_xyz) * layers > most_voxels:
        raise MaskError(
            "The mask has far more voxels than its CT.",
            case=path,
            found=f"{' x '.join(map(str, grid.size_xyz))} voxels of {layers} values",
            expected=f"at most {most_voxels} values",
            remedy="Name the correct file, or export the mask with the CT as its reference volume.",
        )


def _read_labels(path: Path, grid: Grid, layers: int) -> tuple[npt.NDArray[Any], Box | None]:
    """[z, y, x], or [z, y, x, layer] where there are several; and the block that they cover, if not the whole grid."""
    try:
        if layers == 1 and is_nifti(path):
            width, height, _ = grid.size_xyz
            labels, first = read_occupied(path, grid.size_xyz)
            return labels, Box((0, 0, first), (width, height, len(labels)))
        if layers == 1:
            return read_voxels(path, grid, grid.whole), None
        return sitk.GetArrayFromImage(checked_reader(path).Execute()), None
    except UNREADABLE as error:
        raise MaskError(
            "The mask's voxels cannot be read.",
            case=path,
            found=reason(error),
            remedy="The file is damaged or incomplete: copy or export it again.",
        ) from error


def _whole_numbers(path: Path, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels that a program scaled or stored as floating-point numbers, as integers again.

    Raises:
        MaskError: A value is not near an integer.
    """
    if labels.dtype.kind != "f":
        return labels
    rounded: npt.NDArray[Any] = np.rint(labels)
    # Also NaN and infinite values.
    with np.errstate(invalid="ignore"):
        wrong = labels[~(np.abs(labels - rounded) <= _LABEL_TOLERANCE)]
    if wrong.size:
        raise MaskError(
            "The mask's values are not labels.",
            case=path,
            found=f"{wrong.size} voxels between integers, {wrong[0]:.6g} for example",
            expected=f"integers, within {_LABEL_TOLERANCE}",
            remedy="A mask of probabilities, or one that was resampled with interpolation, must be thresholded first. "
            "Export the segmentation as a label map with an integer type.",
        )
    return rounded


def _refuse_fractions(path: Path, reader: sitk.ImageFileReader) -> None:
    kinds = [reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if key.endswith(_REPRESENTATIONS)]
    if any("fractional" in kind.lower() for kind in kinds):
        raise MaskError(
            "The mask's values are not labels.",
            case=path,
            found=f"a segmentation of 3D Slicer of the kind {', '.join(kinds)}",
            expected="a binary label map",
            remedy="Convert the segmentation to a binary label map in 3D Slicer (Segmentations, Representations), and "
            "save it again.",
        )


def _named_segments(reader: sitk.ImageFileReader) -> list[_Named]:
    def text(key: str, default: object) -> str:
        return reader.GetMetaData(key) if reader.HasMetaDataKey(key) else str(default)

    named = []
    keys = [key.removesuffix("_Name") for key in reader.GetMetaDataKeys() if key.endswith("_Name")]
    for key in keys:
        number = key.removeprefix("Segment")
        if not key.startswith("Segment") or not _NUMBER.fullmatch(number):
            continue
        # Until 2020 Slicer wrote every segment as 1 into its own layer, and neither of these fields.
        layer, value = text(f"{key}_Layer", 0 if reader.GetNumberOfComponents() == 1 else number), "1"
        value = text(f"{key}_LabelValue", value)
        if _NUMBER.fullmatch(layer) and _NUMBER.fullmatch(value.removeprefix("-")):
            named.append(_Named(text(f"{key}_Name", ""), int(layer), float(value)))
    return named


def _pick(path: Path, named: Sequence[_Named], segment: str | None, layers: int) -> _Named:
    matching = [named[index] for index in matching_names([item.name for item in named], segment)]
    if not matching and layers == 1 and segment and _is_number(segment):
        return _Named(segment, 0, float(segment))
    if len(matching) == 1 and matching[0].layer < layers:
        return matching[0]
    raise pick_error(path, segment, [item.name for item in named], len(matching))


def _of_label_map(
    path: Path, labels: npt.NDArray[Any], named: Sequence[_Named], segment: str | None
) -> npt.NDArray[np.bool_]:
    if segment and not _is_number(segment):
        raise pick_error(path, segment, [item.name for item in named], 0)
    # Segment 0 would be the background, which `read_occupied` does not read completely.
    inside: npt.NDArray[np.bool_] = (labels == float(segment)) & (labels != 0) if segment else labels > 0
    # A mask of zeros and ones needs no check; sorting a thorax's voxels takes a second.
    if not segment and labels.dtype == np.uint8 and labels.max(initial=0) <= 1:
        return inside
    present = np.unique(labels[labels > 0]).tolist()
    listed = ", ".join(f"{value:g}" for value in present[:10]) + (", ..." if len(present) > 10 else "")
    if segment and present and not inside.any():
        raise unnamed_segment(f"The mask has no voxel of segment {segment!r}.", path, f"labels {listed}")
    if not segment and len(present) > 1:
        what = f"The mask has {len(present)} labels, and none is named."
        found = f"labels {listed}" + (f" (segments {', '.join(item.name for item in named)})" if named else "")
        if len(present) > _MOST_LABELS:
            raise MaskError(what, case=path, found=found, remedy="Name the file of the mask: this one looks like a CT.")
        raise unnamed_segment(what, path, found, "one label, or the nodule's label as the segment")
    return inside


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
