"""One segment of a mask, and the errors when it cannot be read or is not there."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.geometry.axes import AxisOrder
from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.spelling import composed
from ggn_tf.errors import MaskError

# A segment's number; spreadsheet programs add the zeros.
_NUMBER = re.compile(r"[0-9]{1,9}(\.0+)?")
# Masks may be finer than their CT, for example twice in each axis of a slice, or have layers for their segments.
_FINER, _SMALL = 4, 2**24


def most_mask_values(ct_size_xyz: Sequence[int]) -> int:
    """Number of values that a mask of a CT of this size may have, in all its layers and frames together."""
    return max(_FINER * math.prod(ct_size_xyz), _SMALL)


@dataclass(frozen=True)
class Segment:
    """A segment as its file stores it.

    Attributes:
        grid: The segment's own grid, which need not be the CT's.
        inside: [z, y, x] bool.
        block: The part of the grid that `inside` covers; nothing is drawn outside it. None: the whole grid.
        shifted: Whether it was drawn on slices that were repaired, and was moved with them.
        notes: What was decided while the file was read.
        forms_differ: Whether its file states two positions of its voxels (NIfTI's qform and sform).
        one_nodule: Whether it is known to be one nodule, in however many parts.
    """

    grid: Grid
    inside: npt.NDArray[np.bool_]
    block: Box | None = None
    shifted: bool = False
    notes: tuple[str, ...] = ()
    forms_differ: bool = False
    one_nodule: bool = False

    def whole(self) -> npt.NDArray[np.bool_]:
        """[z, y, x] bool, of the grid's size."""
        if self.block is None:
            return self.inside
        whole = np.zeros(self.grid.size_xyz[::-1], dtype=bool)
        whole[self.block.slices_zyx] = self.inside
        return whole

    def ordered_as(self, grid: Grid) -> "Segment":
        """The same segment with its axes in the order and direction of another grid."""
        axes = AxisOrder.of(self.grid, grid.direction)
        if axes.unchanged:
            return self
        block = None if self.block is None else AxisOrder.of(axes.grid, self.grid.direction).stored_box(self.block)
        return replace(self, grid=axes.grid, inside=axes.from_stored(self.inside), block=block)


def pick_segment(path: Path, names: Mapping[int, str], segment: str | None) -> int:
    """The number of the segment that is the nodule.

    The segment is a name or a number; None where there is only one.

    Raises:
        MaskError: No segment matches, or several do.
    """
    matching = matching_names(list(names.values()), segment)
    if not matching and segment and _NUMBER.fullmatch(segment) and int(float(segment)) in names:
        return int(float(segment))
    if len(matching) != 1:
        raise pick_error(path, segment, list(names.values()), len(matching))
    return list(names)[matching[0]]


def names_by_number(numbered: Iterable[tuple[Any, Any]]) -> dict[int, str]:
    """The names of a file's segments by their numbers.

    Raises:
        ValueError: Two segments have one number, so that it does not say which of them is meant.
    """
    names: dict[int, str] = {}
    for stated, name in numbered:
        number = int(stated)
        if number in names:
            raise ValueError(f"two segments with the number {number}, {names[number]!r} and {str(name or '')!r}")
        names[number] = str(name or "")
    return names


def matching_names(names: Sequence[str], segment: str | None) -> list[int]:
    """The positions of the names that a segment may mean: equal ones; where there is none, those that look the same.

    The segment is in any Unicode form and number of spaces; every name matches None.
    """
    equal = [index for index, name in enumerate(names) if segment is None or name == segment]
    return equal or [index for index, name in enumerate(names) if segment and composed(name) == composed(segment)]


def pick_error(path: Path, segment: str | None, names: Sequence[str], matching: int) -> MaskError:
    """The error that it is not clear which segment is the nodule.

    `matching` of the names are the requested one.
    """
    if segment is None:
        what = f"The mask has {len(names)} segments, and none is named."
    elif matching:
        what = f"The mask has {matching} segments {segment!r}."
    else:
        what = f"The mask has no segment {segment!r}."
    return unnamed_segment(
        what,
        path,
        f"segments {', '.join(names)}" if names else "a label map without names",
        "the name of one segment" if names else "a label's value, or a name from the mask's file",
    )


def unnamed_segment(what: str, path: Path, found: str, expected: str | None = None) -> MaskError:
    """An error whose remedy is to name the segment."""
    return MaskError(
        what,
        case=path,
        found=found,
        expected=expected,
        remedy="Name the nodule's segment in the case table's column segment.",
        arguments=("segment",),
    )


@contextmanager
def errors_as(unusable: Callable[[str], MaskError]) -> Iterator[None]:
    """Raise one error for whatever pydicom and highdicom raise on a damaged file: some ten unrelated types."""
    try:
        yield
    except MaskError:
        raise
    except Exception as error:
        raise unusable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
