"""DICOM segmentations (SEG), read from the positions, segment numbers and pixels of their frames alone.

References to other instances and dimension indices are often incomplete or contradictory, and no voxel depends on them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from ggn_tf.cases.dicom.bounds import read_bounded
from ggn_tf.cases.dicom.slice_planes import SlicePlanes
from ggn_tf.cases.dicom.stack import POSITION_TOLERANCE_MM
from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.grid import Box, Floats, Grid, vector
from ggn_tf.cases.geometry.segment import Segment, errors_as, most_mask_values, names_by_number, pick_segment
from ggn_tf.errors import MaskError

# In a fractional segmentation, the probability or the filled fraction from which a voxel belongs to the nodule.
FRACTION = 0.5
# The manufacturer of segmentations that this package writes, with a segment for each nodule.
MAKER = "ggn_tf"
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", _LABEL_MAP)
# Of a grid that the frames make; a damaged position announces any number.
_MOST_VOXELS = 2**29
# Times the pixels of one segment, those of all that are searched for pixels: 32 segments with a frame on every slice.
_SEARCHED = 8
# Of direction cosines, for the rounding of headers.
_COSINE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class _Frame:
    """A frame in which the segment has pixels: its grid of one slice, and [y, x] bool."""

    grid: Grid
    inside: npt.NDArray[np.bool_]


def read_dicom_segment(path: Path, segment: str | None, planes: SlicePlanes) -> Segment:
    """Read one segment of a DICOM segmentation.

    Frames that are on the CT's slices, within `POSITION_TOLERANCE_MM`, are placed there; others make their own grid.
    Slices without a frame are empty.

    Args:
        path: A binary, fractional (then from 0.5 on) or label map segmentation.
        segment: The segment's label, or its number. None where there is only one.
        planes: The CT's slices.

    Raises:
        MaskError: The file is damaged or not a segmentation, its frames are neither on the CT's slices nor on a regular
            grid, or it is not clear which segment is meant.
    """
    with errors_as(partial(_unusable, path)):
        whole = read_bounded(path)
        kind = str(whole.get("SOPClassUID"))
        if kind not in SEGMENTATIONS:
            raise ValueError(f"SOP class {pydicom.uid.UID(kind).name}")
        number = pick_segment(path, segment_labels(whole), segment)
        frames = list(_drawn_frames(whole, number, _is_label_map(whole), most_mask_values(planes.grid.size_xyz)))
        found = _on_slices(frames, planes) or _on_own_grid(frames, whole)
        return replace(found, one_nodule=whole.get("Manufacturer") == MAKER)


def segment_labels(whole: Dataset) -> dict[int, str]:
    """The labels of the segments by their numbers, without the background of a label map.

    Raises:
        ValueError: Two segments have one number.
    """
    labels = names_by_number((item.SegmentNumber, item.get("SegmentLabel")) for item in whole.SegmentSequence)
    if _is_label_map(whole):
        # The background may be described as a segment, and any value may be the background (PS3.3, C.8.20.2.3.3).
        labels.pop(int(whole.get("PixelPaddingValue") or 0), None)
    return labels


def drawn_segments(whole: Dataset, ct_size_xyz: Sequence[int]) -> set[int]:
    """The numbers of the segments with pixels; of each, no more frames are decoded than up to its first with some.

    Raises:
        ValueError: The segmentation is damaged, or has far more pixels than the CT; pydicom raises further types.
    """
    numbers, most, groups = segment_labels(whole).keys(), most_mask_values(ct_size_xyz), _frame_groups(whole)
    _bounded(whole, range(len(groups)), _SEARCHED * most)
    found: set[int] = set()
    if _is_label_map(whole):
        for values in _pixels(whole, _bounded(whole, range(len(groups)), most)):
            found |= numbers & set(np.flatnonzero(np.bincount(values.ravel())).tolist())
            if found == numbers:
                break
        return found
    frames, least = _frames_by_segment(whole, groups), _least(whole)
    for number in numbers & frames.keys():
        if any((values >= least).any() for values in _pixels(whole, _bounded(whole, frames[number], most))):
            found.add(number)
    return found


def _is_label_map(whole: Dataset) -> bool:
    return str(whole.SOPClassUID) == _LABEL_MAP or whole.get("SegmentationType") == "LABELMAP"


def _drawn_frames(whole: Dataset, number: int, is_label_map: bool, most_pixels: int) -> Iterator[_Frame]:
    groups, least = _frame_groups(whole), _least(whole)
    chosen = range(len(groups)) if is_label_map else _frames_by_segment(whole, groups).get(number, [])
    for index, values in zip(chosen, _pixels(whole, _bounded(whole, chosen, most_pixels)), strict=True):
        inside = values == number if is_label_map else values >= least
        if inside.any():
            yield _Frame(_frame_grid(whole, groups[index]), inside)


def _frame_groups(whole: Dataset) -> list[Dataset]:
    groups = list(whole.PerFrameFunctionalGroupsSequence)
    if len(groups) != int(whole.NumberOfFrames):
        raise ValueError(f"{whole.NumberOfFrames} frames, {len(groups)} of them with a description")
    return groups


def _frames_by_segment(whole: Dataset, groups: Sequence[Dataset]) -> dict[int, list[int]]:
    if len(whole.SegmentSequence) == 1 and not _identified(whole, groups):
        # Some writers leave the number out where there is one segment.
        return {int(whole.SegmentSequence[0].SegmentNumber): [*range(len(groups))]}
    frames = defaultdict(list)
    for index, item in enumerate(groups):
        frames[_segment_of(whole, item)].append(index)
    return frames


def _least(whole: Dataset) -> float:
    """A value in each pixel from which it belongs to the segment."""
    fractional = whole.get("SegmentationType") == "FRACTIONAL"
    return FRACTION * int(whole.get("MaximumFractionalValue") or 255) if fractional else 1


def _bounded(whole: Dataset, frames: Sequence[int], most_pixels: int) -> Sequence[int]:
    if len(frames) * int(whole.Rows) * int(whole.Columns) > most_pixels:
        raise ValueError(f"{len(frames)} frames of {whole.Rows} x {whole.Columns} pixels, far more than the CT has")
    return frames


def _pixels(whole: Dataset, frames: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """The pixels of some frames, [y, x]; no others are decoded."""
    if not frames:
        return
    if int(whole.BitsAllocated) != 1 or whole.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from iter_pixels(whole, raw=True, indices=list(frames))
        return
    # pydicom 3.0 loses the last bits of a frame that does not start with a byte.
    rows, columns = int(whole.Rows), int(whole.Columns)
    packed, count = np.frombuffer(whole.PixelData, np.uint8), rows * columns
    if 8 * packed.size < int(whole.NumberOfFrames) * count:
        raise ValueError(f"{packed.size} bytes of pixels for {whole.NumberOfFrames} frames of {rows} x {columns}")
    needed = (int(whole.NumberOfFrames) * count + 7) // 8
    if count % 8 and int(whole.NumberOfFrames) > 1 and packed.size > needed + needed % 2:
        # Of writers that begin each frame, or the frames of each segment, with a byte: it is not known which. Where the
        # spare bits add up to no byte, nothing shows it.
        raise ValueError(f"{packed.size} bytes of pixels, where the frames need {needed}")
    for frame in frames:
        first, skipped = divmod(frame * count, 8)
        bits = np.unpackbits(packed[first : first + (skipped + count + 7) // 8], bitorder="little")
        yield bits[skipped : skipped + count].reshape(rows, columns)


def _identified(whole: Dataset, groups: Sequence[Dataset]) -> bool:
    shared = whole.get("SharedFunctionalGroupsSequence") or ()
    return any("SegmentIdentificationSequence" in item for item in (*shared, *groups))


def _segment_of(whole: Dataset, groups: Dataset) -> int:
    return int(_macro(whole, groups, "SegmentIdentificationSequence").ReferencedSegmentNumber)


def _macro(whole: Dataset, groups: Dataset, name: str) -> Dataset:
    """A functional group of a frame, its own or shared by all frames."""
    shared = whole.get("SharedFunctionalGroupsSequence") or [Dataset()]
    items = groups.get(name) or shared[0].get(name)
    if not items:
        raise ValueError(f"a frame without {name}")
    first: Dataset = items[0]
    return first


def _frame_grid(whole: Dataset, groups: Dataset) -> Grid:
    measures = _macro(whole, groups, "PixelMeasuresSequence")
    height_mm, width_mm = (float(value) for value in measures.PixelSpacing)
    depth_mm = float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1)
    cosines = _macro(whole, groups, "PlaneOrientationSequence").ImageOrientationPatient
    rows, columns = np.array([float(value) for value in cosines]).reshape(2, 3)
    axes = np.column_stack([rows, columns, np.cross(rows, columns)])
    if not (np.abs(axes.T @ axes - np.eye(3)) <= _COSINE_TOLERANCE).all():
        raise ValueError(f"orientation {cosines}")
    spacing = (width_mm, height_mm, abs(depth_mm))
    if not (np.isfinite(spacing).all() and min(spacing) > 0):
        raise ValueError(f"pixel spacing {measures.PixelSpacing}")
    return Grid(
        (int(whole.Columns), int(whole.Rows), 1), spacing, _position(whole, groups), tuple(axes.ravel().tolist())
    )


def _position(whole: Dataset, groups: Dataset) -> tuple[float, float, float]:
    position = vector([float(v) for v in _macro(whole, groups, "PlanePositionSequence").ImagePositionPatient])
    if not np.isfinite(position).all():
        raise ValueError(f"position {position}")
    return position


def _positions(whole: Dataset) -> Floats:
    """The positions of all frames, also of those without pixels of the segment, [N, 3]."""
    return np.array([_position(whole, groups) for groups in whole.PerFrameFunctionalGroupsSequence])


def _on_slices(frames: Sequence[_Frame], planes: SlicePlanes) -> Segment | None:
    """The segment on the CT's slices; None if a pixel of it is on none of them."""
    width, height = planes.size_xy
    layers: dict[int, npt.NDArray[np.bool_]] = {}
    for frame in frames:
        axes = AxisOrder.of(frame.grid, planes.grid.direction)
        first = planes.first_pixel(axes.grid) if axes.grid.size_xyz[2] == 1 else None
        if first is None:
            return None
        x, y, level = first
        rows, columns = np.nonzero(axes.from_stored(frame.inside[None])[0])
        rows, columns = rows + y, columns + x
        if min(rows.min(), columns.min()) < 0 or rows.max() >= height or columns.max() >= width:
            return None
        layers.setdefault(level, np.zeros((height, width), dtype=bool))[rows, columns] = True
    return planes.segment(layers)


def _on_own_grid(frames: Sequence[_Frame], whole: Dataset) -> Segment:
    """The segment on the regular grid that its frames make."""
    lowest = min(frames, key=lambda frame: frame.grid.origin_mm_lps @ _normal(frame)).grid
    normal = np.reshape(lowest.direction, (3, 3))[:, 2]
    # Of one frame, the header's distance or thickness.
    step = frame_distance_mm(np.unique(_positions(whole) @ normal), _stated_step_mm(whole)) or lowest.spacing_mm_xyz[2]
    above_mm = [float((np.asarray(frame.grid.origin_mm_lps) - lowest.origin_mm_lps) @ normal) for frame in frames]
    levels = [round(height / step) for height in above_mm]
    width, height, _ = lowest.size_xyz
    spacing = (*lowest.spacing_mm_xyz[:2], step)
    grid = Grid((width, height, max(levels) + 1), spacing, lowest.origin_mm_lps, lowest.direction)
    if np.prod(grid.size_xyz, dtype=float) > _MOST_VOXELS:
        raise ValueError(f"frames over {max(above_mm):.0f} mm, {step:.2f} mm apart")
    inside = np.zeros(grid.size_xyz[::-1], dtype=bool)
    for level, frame in zip(levels, frames, strict=True):
        if not frame.grid.same_as(grid.part(Box((0, 0, level), (width, height, 1))), POSITION_TOLERANCE_MM):
            raise ValueError("frames that are neither on the CT's slices nor aligned and evenly spaced")
        inside[level] |= frame.inside
    return Segment(grid, inside)


def _normal(frame: _Frame) -> Floats:
    normal: Floats = np.reshape(frame.grid.direction, (3, 3))[:, 2]
    return normal


def _stated_step_mm(whole: Dataset) -> float | None:
    """The distance of slices by the header. Their thickness says nothing about it: slices overlap or leave gaps."""
    first = whole.PerFrameFunctionalGroupsSequence[0]
    stated = _macro(whole, first, "PixelMeasuresSequence").get("SpacingBetweenSlices")
    return abs(float(stated)) if stated else None


def frame_distance_mm(heights_mm: Floats, stated_mm: float | None) -> float | None:
    """The distance of neighbouring slices, some of which have no frame; None where all frames are on one slice.

    Args:
        heights_mm: Of the frames, in ascending order.
        stated_mm: The distance by the header, which counts only where the frames' distances are its multiples.
    """
    gaps_mm = np.diff(heights_mm)
    gaps_mm = gaps_mm[gaps_mm > POSITION_TOLERANCE_MM]
    if not gaps_mm.size:
        return None
    heights_mm = np.concatenate([[0], gaps_mm.cumsum()])
    fits = stated_mm and (np.abs(gaps_mm - np.rint(gaps_mm / stated_mm) * stated_mm) <= POSITION_TOLERANCE_MM).all()
    guesses = [stated_mm] if stated_mm and fits else []
    for guess in (*guesses, float(np.median(gaps_mm)), float(gaps_mm.min())):
        levels = np.concatenate([[0], np.rint(gaps_mm / guess).cumsum()])
        # Rounded positions do not add up: the distance of the outermost frames is the most exact.
        step = float(heights_mm[-1] / max(levels[-1], 1))
        if np.abs(heights_mm - levels * step).max() <= POSITION_TOLERANCE_MM:
            return step
    return float(gaps_mm.min())


def _unusable(path: Path, found: str) -> MaskError:
    return MaskError(
        "The DICOM segmentation cannot be used.",
        case=path,
        found=found,
        expected="a DICOM SEG whose frames are on one CT series",
        remedy="Export it again, or export the segmentation as a label map (.nii.gz or .nrrd).",
    )
