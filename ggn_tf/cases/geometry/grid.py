"""The voxel grid of a volume: the position of each voxel in the patient (LPS, mm)."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

Vector = tuple[float, float, float]
Floats = npt.NDArray[np.float64]

# A tenth of the finest voxel of chest CT (0.5 mm); the rounding of a NIfTI header's 32-bit numbers is below 0.001 mm.
SAME_GRID_MM = 0.05
# Of voxel indices and spacings: far finer than any scan, coarser than what 32-bit headers lose of a spacing.
_INDEX_DECIMALS = 6


class Box(NamedTuple):
    """A block of voxels: its first voxel and its size, both in the order x, y, z."""

    start_xyz: tuple[int, int, int]
    size_xyz: tuple[int, int, int]

    @classmethod
    def between(cls, first_xyz: Sequence[int], last_xyz: Sequence[int]) -> "Box":
        """The block from one voxel to another, both included."""
        pairs = list(zip(first_xyz, last_xyz, strict=True))
        x, y, z = (int(first) for first, _ in pairs)
        width, height, depth = (int(last) - int(first) + 1 for first, last in pairs)
        return cls((x, y, z), (width, height, depth))

    @property
    def last_xyz(self) -> tuple[int, ...]:
        """The block's last voxel."""
        return tuple(start + size - 1 for start, size in zip(self.start_xyz, self.size_xyz, strict=True))

    @property
    def slices_zyx(self) -> tuple[slice, ...]:
        """The index of the block in an array of order z, y, x."""
        pairs = zip(self.start_xyz, self.size_xyz, strict=True)
        return tuple(slice(start, start + size) for start, size in pairs)[::-1]

    def joined(self, other: "Box") -> "Box":
        """The smallest block that contains both."""
        return Box.between(
            np.minimum(self.start_xyz, other.start_xyz).tolist(), np.maximum(self.last_xyz, other.last_xyz).tolist()
        )


@dataclass(frozen=True)
class Grid:
    """A regular grid of voxels in the patient's coordinates.

    Attributes:
        size_xyz: Voxels along each axis.
        spacing_mm_xyz: Distance of neighbouring voxels along each axis.
        origin_mm_lps: Centre of the first voxel.
        direction: Direction cosines, row by row as SimpleITK gives them: column k is the unit vector of axis k.
    """

    size_xyz: tuple[int, int, int]
    spacing_mm_xyz: Vector
    origin_mm_lps: Vector
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @classmethod
    def from_image(cls, image: sitk.Image) -> Self:
        """The grid of a 3D image, or of an `ImageFileReader` that has read a header."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def around(
        cls,
        center_mm_lps: Vector,
        size_xyz: tuple[int, int, int],
        spacing_mm_xyz: Vector,
        direction: tuple[float, ...],
    ) -> Self:
        """The grid centred on a point, which is between voxels where their number is even."""
        middle = (np.asarray(size_xyz) - 1) / 2 * spacing_mm_xyz
        origin = np.asarray(center_mm_lps) - np.reshape(direction, (3, 3)) @ middle
        return cls(size_xyz, spacing_mm_xyz, vector(origin), direction)

    @property
    def spacing_mm_zyx(self) -> Vector:
        """The spacing in the order of the arrays' axes."""
        x, y, z = self.spacing_mm_xyz
        return z, y, x

    @property
    def whole(self) -> Box:
        """All voxels."""
        return Box((0, 0, 0), self.size_xyz)

    def point_of(self, index_xyz: npt.ArrayLike) -> Floats:
        """World points of voxel indices.

        Takes [..., 3], which may be fractional.

        Returns:
            [..., 3] float64, LPS mm.
        """
        steps = np.asarray(index_xyz, dtype=np.float64) * self.spacing_mm_xyz
        points: Floats = steps @ np.reshape(self.direction, (3, 3)).T + self.origin_mm_lps
        return points

    def index_of(self, point_mm_lps: npt.ArrayLike) -> Floats:
        """Voxel indices of world points, the inverse of `point_of`.

        Takes [..., 3].

        Returns:
            [..., 3] float64, order x, y, z, fractional between voxels.
        """
        shift = np.asarray(point_mm_lps, dtype=np.float64) - self.origin_mm_lps
        index: Floats = shift @ np.linalg.inv(np.reshape(self.direction, (3, 3))).T / self.spacing_mm_xyz
        return index

    def corners_mm_lps(self) -> Floats:
        """World points of the eight corner voxels' centres, [8, 3]."""
        return self.point_of(list(itertools.product(*((0, size - 1) for size in self.size_xyz))))

    def difference_mm(self, other: "Grid") -> float:
        """The largest distance of two corresponding voxels, at a corner; infinite if the sizes differ."""
        if self.size_xyz != other.size_xyz:
            return float("inf")
        return float(np.linalg.norm(self.corners_mm_lps() - other.corners_mm_lps(), axis=1).max())

    def same_as(self, other: "Grid", tolerance_mm: float = SAME_GRID_MM) -> bool:
        """Whether size, spacing, origin and direction agree, within the tolerance at every voxel."""
        return self.difference_mm(other) <= tolerance_mm

    def covers(self, point_mm_lps: Vector) -> bool:
        """Whether a point is in a voxel of this grid."""
        index = self.index_of(point_mm_lps)
        return bool(np.all(index >= -0.5) and np.all(index < np.asarray(self.size_xyz) - 0.5))

    def box_around(self, other: "Grid") -> Box | None:
        """The voxels of this grid that linear interpolation on another grid may need; None if they do not overlap."""
        index = self.index_of(other.corners_mm_lps())
        # One voxel more on each side, so that the block's rim is reached only where the volume itself ends.
        first = np.maximum(np.floor(index.min(axis=0)).astype(int) - 1, 0)
        last = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, np.asarray(self.size_xyz) - 1)
        return Box.between(first.tolist(), last.tolist()) if np.all(first <= last) else None

    def block_of(self, other: "Grid") -> Box | None:
        """The block of this grid's voxels that another grid consists of; None if it is not such a block."""
        start = np.rint(self.index_of(other.origin_mm_lps)).astype(int)
        inside = bool(np.all(start >= 0) and np.all(start + other.size_xyz <= self.size_xyz))
        block = Box.between(start.tolist(), (start + other.size_xyz - 1).tolist())
        return block if inside and self.part(block).same_as(other) else None

    def part(self, box: Box) -> "Grid":
        """The grid of a block of its voxels."""
        return Grid(box.size_xyz, self.spacing_mm_xyz, vector(self.point_of(box.start_xyz)), self.direction)

    def in_voxels_of(self, other: "Grid") -> "Grid":
        """This grid with voxel indices of another one, whose axes are parallel, in place of millimetres.

        The same CT gives the same numbers to the bit in whatever file format and order of its axes it is stored: what
        32-bit headers lose of spacing and origin, some 1e-8 and 1e-5 mm, is rounded away.
        """
        half = (np.asarray(self.size_xyz) - 1) / 2
        steps = np.round(self.spacing_mm_xyz, _INDEX_DECIMALS) / np.round(other.spacing_mm_xyz, _INDEX_DECIMALS)
        middle = np.round(other.index_of(self.point_of(half)), _INDEX_DECIMALS)
        return Grid(self.size_xyz, vector(steps), vector(middle - half * steps))

    def image_of(self, array_zyx: npt.NDArray[np.generic]) -> sitk.Image:
        """An image of these voxels.

        Takes [z, y, x], as many voxels as the grid has.
        """
        image = sitk.GetImageFromArray(array_zyx)
        self.place(image)
        return image

    def place(self, image: sitk.Image) -> None:
        """Give an image this grid's spacing, origin and direction."""
        image.SetSpacing(self.spacing_mm_xyz)
        image.SetOrigin(self.origin_mm_lps)
        image.SetDirection(self.direction)

    def sample(self, image: sitk.Image, interpolator: int, outside: float) -> npt.NDArray[Any]:
        """The values of an image at this grid's voxels.

        `outside` is the value where the image does not reach.

        Returns:
            [z, y, x].
        """
        values = sitk.Resample(
            image,
            self.size_xyz,
            sitk.Transform(),
            interpolator,
            self.origin_mm_lps,
            self.spacing_mm_xyz,
            self.direction,
            outside,
        )
        array: npt.NDArray[Any] = sitk.GetArrayFromImage(values)
        return array

    def __str__(self) -> str:
        """The grid's text in an error message."""
        size = " x ".join(str(count) for count in self.size_xyz)
        spacing = " x ".join(f"{step:.6g}" for step in self.spacing_mm_xyz)
        direction = ", ".join(f"{cosine + 0.0:.4g}" for cosine in self.direction)
        return f"{size} voxels of {spacing} mm, origin {point_text(self.origin_mm_lps)}, direction ({direction})"


def vector(values: npt.ArrayLike) -> Vector:
    """Three numbers as plain Python floats."""
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return x, y, z


def point_text(point: Sequence[float] | Floats) -> str:
    """A point's text in an error message."""
    return f"({', '.join(f'{value:.2f}' for value in point)})"
