"""One labelled part of a mask, and the error when it is not there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.errors import MaskError


@dataclass(frozen=True)
class Segment:
    """A segment as its file holds it.

    Attributes:
        grid: Its own grid, which need not be the CT's.
        inside: [z, y, x] bool.
        block: The part of the grid that `inside` covers, where nothing is drawn beyond it. None: all of the grid.
        shifted: Whether it was drawn on slices that were put in their places, and was moved with them.
    """

    grid: Grid
    inside: npt.NDArray[np.bool_]
    block: Box | None = None
    shifted: bool = False

    def whole(self) -> npt.NDArray[np.bool_]:
        """[z, y, x] bool, of the grid's size."""
        if self.block is None:
            return self.inside
        whole = np.zeros(self.grid.size_xyz[::-1], dtype=bool)
        whole[self.block.slices_zyx] = self.inside
        return whole


def pick_error(path: Path, segment: str | None, names: Sequence[str], matching: int) -> MaskError:
    """Say why it is not clear which segment is meant.

    Args:
        path: The mask.
        segment: What was asked for.
        names: Of all segments.
        matching: How many of them have that name.
    """
    if segment is None:
        what = f"The mask has {len(names)} segments, and none is named."
    elif matching:
        what = f"The mask has {matching} segments {segment!r}."
    else:
        what = f"The mask has no segment {segment!r}."
    return MaskError(
        what,
        case=path,
        found=f"segments {', '.join(names)}" if names else "a label map without names",
        expected="the name of one segment" if names else "a label's value, or a name that the mask's file holds",
        remedy="Name the nodule's segment: in the table's column segment, a row a nodule, or with --segment.",
    )
