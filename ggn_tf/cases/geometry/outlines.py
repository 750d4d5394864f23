"""Regions that closed outlines enclose, filled on the pixels of a slice."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from ggn_tf.cases.geometry.grid import Floats

# A pixel whose centre is this close to an outline is on it: the rounding of coordinates that are written with two
# decimals of a millimetre.
_ON_OUTLINE = 0.02
# Two outlines that are nowhere further apart are one that was stored twice; no wall of a nodule is as thin.
_SAME_OUTLINE = 0.05


@dataclass(frozen=True)
class Outline:
    """A closed outline, filled on the pixels of the smallest box that contains it.

    Attributes:
        points: [N, 2], columns and rows, fractional between pixels; one or two points enclose nothing.
        start_xy: The first column and row of the box.
        inside: [y, x] bool, the pixels whose centres are inside by the even-odd rule, and not on the outline.
        on: [y, x] bool, the pixels whose centres are on the outline.
    """

    points: Floats
    start_xy: tuple[int, int]
    inside: npt.NDArray[np.bool_]
    on: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, points: Floats) -> Self:
        """Fill an outline.

        Takes columns and rows [N, 2].
        """
        once, again = points[: len(points) // 2], points[len(points) // 2 :]
        if len(once) == len(again) > 2 and np.abs(once - again).max() <= _ON_OUTLINE:
            # Drawn round twice, which the even-odd rule would take for nothing.
            points = once
        start = np.floor(points.min(axis=0)).astype(int)
        width, height = np.ceil(points.max(axis=0)).astype(int) - start + 1
        shifted = points - start
        on = _on_outline(shifted, (height, width))
        return cls(points, (int(start[0]), int(start[1])), _enclosed(shifted, (height, width)) & ~on, on)

    @cached_property
    def area(self) -> float:
        """The enclosed area in pixels, by the shoelace formula."""
        x, y = (self.points - self.points[0]).T
        return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2

    def same_as(self, other: "Outline") -> bool:
        """Whether both run along the same line, in whatever direction and from whatever point on."""
        return self._close_to(other) and other._close_to(self)

    def within(self, other: "Outline") -> bool:
        """Whether this outline runs inside the other or on it."""
        low, high = other.points.min(axis=0) - _SAME_OUTLINE, other.points.max(axis=0) + _SAME_OUTLINE
        if other.area <= self.area or (self.points < low).any() or (self.points > high).any():
            return False
        points = self._with_middles()
        beyond = points[~_is_enclosed(points, other.points)]
        return not len(beyond) or float(_distances(beyond, other.points).max()) <= _SAME_OUTLINE

    def _with_middles(self) -> Floats:
        return np.concatenate([self.points, (self.points + np.roll(self.points, -1, axis=0)) / 2])

    def _close_to(self, other: "Outline") -> bool:
        if (np.abs(self.points.min(axis=0) - other.points.min(axis=0)) > _SAME_OUTLINE).any():
            return False
        return bool(_distances(self._with_middles(), other.points).max() <= _SAME_OUTLINE)


def fill(outlines: Sequence[Outline], size_xy: tuple[int, int], *, exclusive: bool) -> npt.NDArray[np.bool_]:
    """The region that outlines of one slice enclose.

    An outline that is there twice counts once. An outline inside another cuts a hole, one inside a hole is an island;
    others are joined. What is on any outline belongs to the region.

    Args:
        outlines: Of one region on one slice, within its pixels.
        size_xy: Number of columns and rows of the slice.
        exclusive: Whether areas that an even number of outlines enclose are outside the region, also where outlines
            cross (CLOSEDPLANAR_XOR); else these areas are inside.

    Returns:
        [y, x] bool.
    """
    different: list[Outline] = []
    for outline in outlines:
        if not any(outline.same_as(other) for other in different):
            different.append(outline)
    # An outline along the slice's edge reaches a pixel beyond it.
    region = np.zeros((size_xy[1] + 2, size_xy[0] + 2), dtype=bool)
    if exclusive:
        for outline in different:
            _part(region, outline)[...] ^= outline.inside
        # Last: toggled, pixels on a line that two outlines share would be lost.
        for outline in different:
            _part(region, outline)[...] |= outline.on
    else:
        _join(region, different)
    return region[1:-1, 1:-1]


def _join(region: npt.NDArray[np.bool_], outlines: Sequence[Outline]) -> None:
    """Set the pixels that different outlines enclose, without their holes."""
    holders = [{number for number, other in enumerate(outlines) if item.within(other)} for item in outlines]
    # How many outlines are around each; those around it are larger.
    depths = [0] * len(outlines)
    for number in sorted(range(len(outlines)), key=lambda number: -outlines[number].area):
        depths[number] = max((1 + depths[holder] for holder in holders[number]), default=0)
    for number, outline in enumerate(outlines):
        if depths[number] % 2 == 0:
            solid = np.zeros_like(region)
            _part(solid, outline)[...] = outline.inside | outline.on
            for other, hole in enumerate(outlines):
                if depths[other] % 2 == 1 and number in holders[other]:
                    _part(solid, hole)[...] &= ~hole.inside
            region |= solid


def _part(region: npt.NDArray[np.bool_], outline: Outline) -> npt.NDArray[np.bool_]:
    (x, y), (height, width) = outline.start_xy, outline.inside.shape
    return region[y + 1 : y + 1 + height, x + 1 : x + 1 + width]


def _enclosed(points: Floats, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Pixels inside by the even-odd rule: crossings of each row, counted from the left."""
    height, width = shape
    starts, ends = points, np.roll(points, -1, axis=0)
    rows = np.arange(height)[:, None]
    row, edge = np.nonzero((starts[:, 1] <= rows) != (ends[:, 1] <= rows))
    (x0, y0), (x1, y1) = starts[edge].T, ends[edge].T
    columns = np.ceil(x0 + (row - y0) * (x1 - x0) / (y1 - y0)).astype(int).clip(0, width)
    crossings = np.zeros((height, width + 1), dtype=int)
    np.add.at(crossings, (row, columns), 1)
    enclosed: npt.NDArray[np.bool_] = crossings[:, :-1].cumsum(axis=1) % 2 == 1
    return enclosed


def _on_outline(points: Floats, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Pixels whose centres are on the outline: on each edge, at most one for each step along its longer direction."""
    on = np.zeros(shape, dtype=bool)
    starts, ends = points, np.roll(points, -1, axis=0)
    steep = np.abs(ends - starts).argmax(axis=1) == 1
    for along, chosen in ((0, ~steep), (1, steep)):
        start, end = starts[chosen], ends[chosen]
        first = np.ceil(np.minimum(start, end)[:, along] - _ON_OUTLINE).astype(int)
        counts = np.floor(np.maximum(start, end)[:, along] + _ON_OUTLINE).astype(int) - first + 1
        edge = np.repeat(np.arange(len(start)), counts)
        centers = np.empty((len(edge), 2))
        centers[:, along] = first[edge] + np.arange(len(edge)) - np.repeat(counts.cumsum() - counts, counts)
        nearest = _on_edge(centers, start[edge], end[edge], along)
        centers[:, 1 - along] = np.rint(nearest[:, 1 - along])
        nearest = _nearest_points(centers, start[edge], end[edge])
        x, y = centers[np.linalg.norm(nearest - centers, axis=1) <= _ON_OUTLINE].astype(int).T
        within = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
        on[y[within], x[within]] = True
    return on


def _on_edge(points: Floats, start: Floats, end: Floats, along: int) -> Floats:
    """The points of edges with the same coordinate along an axis, or their nearer ends."""
    length = (end - start)[:, along]
    share = np.divide(points[:, along] - start[:, along], length, out=np.zeros(len(points)), where=length != 0)
    moved: Floats = start + share.clip(0, 1)[:, None] * (end - start)
    return moved


def _nearest_points(points: Floats, start: Floats, end: Floats) -> Floats:
    """The points of edges nearest to given points, all [..., 2]."""
    direction = end - start
    squared = np.square(direction).sum(axis=-1)
    share = ((points - start) * direction).sum(axis=-1) / np.where(squared > 0, squared, 1)
    nearest: Floats = start + share.clip(0, 1)[..., None] * direction
    return nearest


def _distances(points: Floats, outline: Floats) -> Floats:
    """The distance of each point from an outline."""
    starts, ends = outline[None], np.roll(outline, -1, axis=0)[None]
    return np.concatenate(
        [
            np.linalg.norm(_nearest_points(part[:, None], starts, ends) - part[:, None], axis=-1).min(axis=1)
            for part in _portions(points)
        ]
    )


def _is_enclosed(points: Floats, outline: Floats) -> npt.NDArray[np.bool_]:
    """Whether points are inside an outline by the even-odd rule."""
    starts, ends = outline[None], np.roll(outline, -1, axis=0)[None]
    enclosed = []
    for part in _portions(points):
        x, y = part[:, None, 0], part[:, None, 1]
        crossed = (starts[..., 1] <= y) != (ends[..., 1] <= y)
        height = np.where(crossed, ends[..., 1] - starts[..., 1], 1)
        at = starts[..., 0] + (y - starts[..., 1]) * (ends[..., 0] - starts[..., 0]) / height
        enclosed.append((crossed & (at < x)).sum(axis=1) % 2 == 1)
    return np.concatenate(enclosed)


def _portions(points: Floats) -> list[Floats]:
    """Points in groups of a few: of an organ's outline, all distances at once take gigabytes."""
    return np.array_split(points, len(points) // 256 + 1)
