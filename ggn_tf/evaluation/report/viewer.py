"""A viewer of regions of CTs: three planes with a slider each, the outline of a mask, and window presets.

`region_of` packs a region; `Viewer` is the block of a page that shows one, or several whose sliders move together.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from ggn_tf.cases.geometry.axes import LPS
from ggn_tf.cases.geometry.grid import Box, Floats, Grid, Vector
from ggn_tf.dataset.previews import outlined
from ggn_tf.protocol import AIR_HU, PatchProtocol
from ggn_tf.shown_text import one_line

FIELD_MM = 60.0
# In base64 less than 3 MB.
_MOST_VOXELS = 1_000_000
# Cosines: over a field the difference is less than 0.1 mm.
_STRAIGHT = 1e-3
_PIXEL_MM = 0.25
_LARGEST_HU = 2**15 - 1
_Voxels = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Window:
    """A window of Hounsfield units that a reader can choose."""

    title: str
    low_hu: float
    high_hu: float


LUNG = Window("lung (-600 / 1500)", -1350.0, 150.0)
WINDOWS = (
    LUNG,
    Window("soft tissue (40 / 400)", -160.0, 240.0),
    Window("the method's (-1024 to 400)", *PatchProtocol().window_hu),
)


@dataclass(frozen=True)
class Plane:
    """One plane of a region.

    Attributes:
        name: `axial`, `coronal` or `sagittal`.
        axis: The name of the axis across it: x, y or z.
        start: The slice that is shown first, from 0.
        first_mm: LPS coordinate of slice 0.
        step_mm: Distance of the slices.
        sides: The patient's sides at the left, right, top and bottom.
        png: The slice `start` in the lung window with the outline of the mask, for print and without JavaScript.
    """

    name: str
    axis: str
    count: int
    start: int
    first_mm: float
    step_mm: float
    size_mm: tuple[float, float]
    sides: tuple[str, str, str, str]
    png: bytes


@dataclass(frozen=True)
class Region:
    """A region around one nodule, with axes L, P and S.

    Attributes:
        title: A name for the reader, on one line.
        hu: Little-endian int16, x fastest.
        mask: One bit per voxel in the same order, the lowest bit first; empty without a mask.
    """

    title: str
    size_xyz: tuple[int, int, int]
    hu: bytes
    mask: bytes
    planes: tuple[Plane, ...]

    @property
    def widest_mm(self) -> float:
        """The width of the widest plane; all are drawn at one scale."""
        return max(plane.size_mm[0] for plane in self.planes)


@dataclass(frozen=True)
class Viewer:
    """A block that shows regions, below each other; windows and masks are switched for all of them together.

    Attributes:
        anchor: Unique in the page.
        regions: At least one. The planes of several meet at corresponding points, and their sliders move together.
    """

    template: ClassVar[str] = "viewer.html"
    windows: ClassVar[Sequence[Window]] = WINDOWS

    anchor: str
    regions: Sequence[Region]


def region_of(
    title: str, block: sitk.Image, mask: sitk.Image | None, center_mm_lps: Vector, field_mm: float = FIELD_MM
) -> Region:
    """Pack the region around a point.

    The CT's own voxels are packed, unless they are more than a million or their axes are oblique: then the region is
    interpolated linearly.

    Args:
        title: A name for the reader, of unknown origin.
        block: Hounsfield units of the CT around the point, with the axes nearest to L, P and S.
        mask: 0 or 1, on a block of the same CT; None for no outline.
        center_mm_lps: Where the planes meet at first, in the block.
        field_mm: Width of the region, if the block is as wide.
    """
    ct = Grid.from_image(block)
    grid = _own_grid(ct, center_mm_lps, field_mm)
    if grid is None:
        grid = _straight_grid(ct, center_mm_lps, field_mm)
        hu = grid.sample(block, sitk.sitkLinear, AIR_HU)
    else:
        start = np.rint(ct.index_of(grid.origin_mm_lps)).astype(int)
        box = Box.between(start.tolist(), (start + grid.size_xyz - 1).tolist())
        hu = sitk.GetArrayViewFromImage(block)[box.slices_zyx]
    inside = np.zeros(hu.shape, bool) if mask is None else grid.sample(mask, sitk.sitkNearestNeighbor, 0) > 0
    center = np.clip(np.rint(grid.index_of(center_mm_lps)).astype(int), 0, np.asarray(grid.size_xyz) - 1)
    return Region(
        one_line(title),
        grid.size_xyz,
        np.clip(np.rint(hu), -_LARGEST_HU, _LARGEST_HU).astype("<i2").tobytes(),
        b"" if mask is None else np.packbits(inside, axis=None, bitorder="little").tobytes(),
        tuple(_plane(name, grid, hu, inside, center.tolist()) for name in _PLANES),
    )


def _own_grid(ct: Grid, center_mm_lps: Vector, field_mm: float) -> Grid | None:
    """The block's voxels in the field; None where these cannot be shown as they are."""
    if not np.allclose(ct.direction, LPS, atol=_STRAIGHT):
        return None
    half, index = field_mm / 2 / np.asarray(ct.spacing_mm_xyz), ct.index_of(center_mm_lps)
    end = np.asarray(ct.size_xyz) - 1
    first = np.clip(np.ceil(index - half), 0, end).astype(int)
    last = np.clip(np.floor(index + half), first, end).astype(int)
    return ct.part(Box.between(first.tolist(), last.tolist())) if np.prod(last - first + 1) <= _MOST_VOXELS else None


def _straight_grid(ct: Grid, center_mm_lps: Vector, field_mm: float) -> Grid:
    """A grid along L, P and S with the block's spacing, or a coarser one that has few enough voxels."""
    spacing: Floats = np.array(ct.spacing_mm_xyz)
    while np.prod(field_mm // spacing + 1) > _MOST_VOXELS:
        spacing = np.maximum(spacing, spacing.min() * 1.05)
    x, y, z = (field_mm // spacing + 1).astype(int).tolist()
    return Grid.around(center_mm_lps, (x, y, z), tuple(spacing.tolist()), LPS)


# The axis across each plane, along its rows and along its columns; the sides at its left, right, top and bottom. The
# head is at the top, where the axis S ends.
_PLANES = {
    "axial": (2, 0, 1, ("R", "L", "A", "P")),
    "coronal": (1, 0, 2, ("R", "L", "S", "I")),
    "sagittal": (0, 1, 2, ("A", "P", "S", "I")),
}


def _plane(name: str, grid: Grid, hu: _Voxels, inside: npt.NDArray[np.bool_], center_xyz: list[int]) -> Plane:
    across, along_row, along_column, sides = _PLANES[name]
    size_mm = [size * step for size, step in zip(grid.size_xyz, grid.spacing_mm_xyz, strict=True)]
    size = (size_mm[along_row], size_mm[along_column])
    # The array's axes are z, y, x.
    number, rows = center_xyz[across], slice(None, None, -1 if along_column == 2 else 1)
    hu_slice, inside_slice = np.moveaxis(hu, 2 - across, 0)[number], np.moveaxis(inside, 2 - across, 0)[number]
    return Plane(
        name=name,
        axis="xyz"[across],
        count=grid.size_xyz[across],
        start=number,
        first_mm=grid.origin_mm_lps[across],
        step_mm=grid.spacing_mm_xyz[across],
        size_mm=size,
        sides=sides,
        png=_picture(hu_slice[rows], inside_slice[rows], size),
    )


def _picture(hu: _Voxels, inside: npt.NDArray[np.bool_], size_mm: tuple[float, float]) -> bytes:
    pixels = (max(1, round(size_mm[0] / _PIXEL_MM)), max(1, round(size_mm[1] / _PIXEL_MM)))
    fine_hu = Image.fromarray(hu.astype(np.float32)).resize(pixels, Image.Resampling.BILINEAR)
    fine_mask = Image.fromarray(inside.astype(np.uint8)).resize(pixels, Image.Resampling.NEAREST)
    window_hu = (LUNG.low_hu, LUNG.high_hu)
    picture = outlined(np.asarray(fine_hu), np.asarray(fine_mask), enlarged=1, window_hu=window_hu)
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG", compress_level=1)
    return content.getvalue()
