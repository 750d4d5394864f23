"""Stacks of CT slices: whether they make a volume, and on which grid."""

import filecmp
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.slices import Slice
from ggn_tf.cases.geometry.grid import Floats, Grid, vector

# Scanners that write positions with one decimal are up to 0.05 mm off the true position.
POSITION_TOLERANCE_MM = 0.1
# Headers in whole millimetres; and the share of distances that are long: of a spacing of 1.25 mm each fourth.
_WHOLE_MM, _MOST_MISSING = 1e-3, 0.1
# Defined terms of RescaleType (PS3.3, C.11.1.1.2): HU, modified HU, and unspecified, which some exporters write for HU.
_HOUNSFIELD = ("HU", "HU_MOD", "HOUNSFIELD", "HOUNSFIELD UNITS", "US", "UNSPECIFIED", "")


class Problem(NamedTuple):
    """Why slices do not make a volume; as in `GgnError`.

    Attributes:
        repairable: Whether the slices' values can still be resampled onto a regular grid.
    """

    found: str
    expected: str
    remedy: str
    repairable: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments that the remedy needs."""
        return ("repair",) if self.repairable else ()


@dataclass(frozen=True)
class Stack:
    """Slices in the order of the volume's z axis.

    Attributes:
        slices: From the lowest along their normal to the highest.
        grid: The grid of their voxels if there is no problem; None if they fit on no grid.
        problems: Why they do not make a volume; empty if they do.
    """

    slices: tuple[Slice, ...]
    grid: Grid | None
    problems: tuple[Problem, ...] = ()

    @property
    def origins_mm_lps(self) -> Floats:
        """The positions of the slices' first pixels, [N, 3]."""
        return np.array([item.origin_mm_lps for item in self.slices])

    @property
    def normal(self) -> Floats:
        """The unit vector across the slices."""
        normal: Floats = np.reshape(self.slices[0].direction, (3, 3))[:, 2]
        return normal


def stack_slices(slices: Sequence[Slice]) -> Stack:
    """Order the slices of a series and check whether they make a volume; copies of an instance count once."""
    problems = tuple(_differences(slices))
    if problems:
        return Stack(tuple(slices), None, problems)
    normal = np.reshape(slices[0].direction, (3, 3))[:, 2]
    ordered = _without_copies(sorted(slices, key=lambda item: float(np.dot(item.origin_mm_lps, normal))))
    if len(ordered) == 1:
        single = Problem(f"one slice, {ordered[0].name}", "at least two slices", "Name the folder of the whole series.")
        return Stack(tuple(ordered), None, (single,))
    origins = np.array([item.origin_mm_lps for item in ordered])
    first = ordered[0]
    width, height, _ = first.size_xyz
    step = float((origins[-1] - origins[0]) @ normal) / (len(ordered) - 1)
    grid = Grid(
        (width, height, len(ordered)),
        (first.spacing_mm_xyz[0], first.spacing_mm_xyz[1], step),
        vector(first.origin_mm_lps),
        first.direction,
    )
    mixed = tuple(_interleaved(ordered))
    if mixed:
        return Stack(tuple(ordered), None, mixed)
    found = (*_spacing_problems(ordered, origins @ normal), *_tilt(origins, normal))
    return Stack(tuple(ordered), grid, found)


def _without_copies(ordered: list[Slice]) -> list[Slice]:
    kept: list[Slice] = []
    for item in ordered:
        beside = itertools.takewhile(lambda other, item=item: _at_one_place(item, other), reversed(kept))  # type: ignore[misc]
        if not any(_is_copy(item, other) for other in beside):
            kept.append(item)
    return kept


def _at_one_place(item: Slice, other: Slice) -> bool:
    return math.dist(item.origin_mm_lps, other.origin_mm_lps) <= POSITION_TOLERANCE_MM


def _is_copy(item: Slice, other: Slice) -> bool:
    """Whether two slices of one place have the same voxels, as after a second export, also under another UID."""
    return (
        item.path != other.path
        and (item.uid == other.uid or item.acquisition == other.acquisition)
        and (item.frame, item.size_xyz, item.rescale) == (other.frame, other.size_xyz, other.rescale)
        and _same_voxels(item.path, other.path)
    )


@lru_cache(maxsize=1024)
def _same_voxels(path: Path, other: Path) -> bool:
    """Whether two files have the same voxels; their headers may differ."""
    if filecmp.cmp(path, other, shallow=False):
        return True
    try:
        voxels, others = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (path, other))
    except RuntimeError:
        return False
    return np.array_equal(voxels, others)


def _comparable(value: str) -> str:
    """A value without differences in how a number is written."""
    try:
        return f"{float(value):.10g}"
    except ValueError:
        return value


def _interleaved(ordered: Sequence[Slice]) -> Iterator[Problem]:
    """Slices of several acquisitions or reconstructions between one another; slices without the value do not count."""
    one_file = len({item.path for item in ordered}) == 1
    separate = "Export each as a series of its own" if one_file else "Put the slices of each into a folder of its own"
    for name in dict.fromkeys(name for item in ordered for name, _ in item.acquisition):
        values = [_comparable(value) for item in ordered for other, value in item.acquisition if other == name]
        counts = Counter(values)
        runs = 1 + sum(value != following for value, following in itertools.pairwise(values))
        if runs > len(counts):
            listed = ", ".join(f"{value} in {_counted(count, 'slice')}" for value, count in counts.most_common(4))
            yield Problem(
                f"slices of {len(counts)} acquisitions or reconstructions between one another: {name} {listed}",
                "one acquisition and reconstruction",
                f"{separate}, and name the one that the nodule was drawn on.",
            )
            return


def _differences(slices: Sequence[Slice]) -> Iterator[Problem]:
    """Slices that cannot be stacked."""
    remedy = "Keep the slices of one reconstruction in the folder."
    unplaced = [item.name for item in slices if not item.positioned]
    if unplaced:
        expected = "a position and an orientation in every slice (0020,0032 and 0020,0037)"
        yield Problem(f"{_counted(len(unplaced), 'slice')} without a position, {unplaced[0]} first", expected, remedy)
    unscaled = [item.name for item in slices if item.rescale is None]
    if unscaled:
        yield Problem(
            f"{_counted(len(unscaled), 'slice')} without a usable rescale slope and intercept, {unscaled[0]} first",
            "the conversion of stored values to Hounsfield units in every slice (0028,1053 and 0028,1052)",
            "Export the original images from the scanner or PACS.",
        )
    yield from _misread(slices)
    unsized = [item.name for item in slices if min(item.spacing_mm_xyz) <= 0]
    if unsized:
        expected = "the pixel spacing in every slice (0028,0030)"
        yield Problem(
            f"{_counted(len(unsized), 'slice')} without a pixel spacing, {unsized[0]} first", expected, remedy
        )
    aspects: dict[str, list[tuple[float, ...]]] = {
        "size": [item.size_xyz for item in slices],
        "pixel spacing": [item.spacing_mm_xyz[:2] for item in slices],
        "orientation": [item.direction[:6] for item in slices],
    }
    for aspect, values in aspects.items():
        counts = _count_alike(values)
        if len(counts) > 1:
            listed = ", ".join(f"({', '.join(f'{v + 0.0:.4g}' for v in value)}) in {counts[value]}" for value in counts)
            yield Problem(f"{len(counts)} values of {aspect}: {listed}", f"one {aspect}", remedy)


def _misread(slices: Sequence[Slice]) -> Iterator[Problem]:
    """Slices of several patients, or whose values are not what readers take them for."""
    patients = {item.patient for item in slices} - {""}
    if len(patients) > 1:
        # Without the ids, which name patients.
        expected = "one PatientID (0010,0020) in a series"
        yield Problem(f"slices of {len(patients)} patients", expected, "Put each patient's slices into an own folder.")
    units = sorted({item.rescale_type for item in slices if item.rescale_type not in _HOUNSFIELD})
    if units:
        yield Problem(
            f"values of the rescale type {', '.join(units)} (0028,1054)",
            "Hounsfield units (HU)",
            "Name the series in Hounsfield units of the same scan: this one shows another quantity.",
        )
    shifted = [item.name for item in slices if not item.lowest_bits]
    if shifted:
        yield Problem(
            f"{_counted(len(shifted), 'slice')} with stored values in higher bits, {shifted[0]} first",
            "a high bit (0028,0102) of one less than the bits stored (0028,0101)",
            "Export the original images from the scanner or PACS.",
        )


def _count_alike(values: list[tuple[float, ...]]) -> dict[tuple[float, ...], int]:
    """How many slices share a value, regardless of a scanner's rounding."""
    counts: dict[tuple[float, ...], int] = {}
    for value in values:
        # Almost always identical: a comparison of tuples is a hundred times faster than allclose.
        known = value if value in counts else next((other for other in counts if _alike(other, value)), value)
        counts[known] = counts.get(known, 0) + 1
    return counts


def _alike(value: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return len(value) == len(other) and np.allclose(value, other, rtol=0, atol=1e-4)


def _tilt(origins: Floats, normal: Floats) -> Iterator[Problem]:
    """Slices that are shifted within their plane from one to the next."""
    shifts = origins - origins[0]
    shifts -= np.outer(shifts @ normal, normal)
    sideways = np.linalg.norm(shifts, axis=1)
    if sideways.max() > POSITION_TOLERANCE_MM:
        along = float((origins[-1] - origins[0]) @ normal)
        angle = np.degrees(np.arctan2(sideways[-1], along))
        yield Problem(
            f"a gantry tilt of {angle:.1f} degrees: {sideways.max():.2f} mm sideways over {along:.2f} mm of slices",
            "slices aligned along their normal",
            "Allow the repair that shifts every slice to its true position.",
            repairable=True,
        )


def _spacing_problems(slices: list[Slice], positions: Floats) -> Iterator[Problem]:
    """Slices that are missing, repeated, or unevenly placed along the normal."""
    steps = np.diff(positions)
    repeated = np.flatnonzero(steps <= POSITION_TOLERANCE_MM)
    if repeated.size:
        names = " and ".join(item.name for item in slices[repeated[0] : repeated[0] + 2])
        yield Problem(
            f"{len(slices)} slices at {len(slices) - repeated.size} positions, for example {names}",
            "one slice per position",
            "Keep one reconstruction or point in time in the folder.",
        )
    apart = steps[steps > POSITION_TOLERANCE_MM]
    if not apart.size:
        return
    usual = float(statistics.median_low(apart.tolist()))
    gaps = np.flatnonzero(steps > 1.5 * usual)
    if not repeated.size and _rounded(positions, len(gaps)):
        yield Problem(
            f"positions rounded to whole millimetres: distances from {apart.min():.0f} to {apart.max():.0f} mm",
            f"uniform spacing, within {POSITION_TOLERANCE_MM} mm",
            "Export the original series again; or allow the repair that interpolates between the slices' positions.",
            repairable=True,
        )
    elif gaps.size:
        missing = sum(round(float(steps[index]) / usual) - 1 for index in gaps)
        listed = ", ".join(
            f"{steps[index]:.2f} mm from {slices[index].name} to {slices[index + 1].name}" for index in gaps[:4]
        )
        yield Problem(
            f"{_counted(missing, 'missing slice')} in {_counted(len(gaps), 'gap')}: {listed}",
            f"{usual:.2f} mm from slice to slice",
            "Export the series again, with all of its slices.",
        )
    elif not repeated.size:
        yield from _uneven(positions, apart)


def _rounded(positions: Floats, gaps: int) -> bool:
    """Whether evenly spaced positions were rounded: too many long distances, too regular for missing slices."""
    even = np.linspace(positions[0], positions[-1], len(positions))
    whole = np.abs(positions - np.rint(positions)).max() < _WHOLE_MM
    return bool(whole and gaps > _MOST_MISSING * len(positions) and np.abs(positions - even).max() < 1)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _uneven(positions: Floats, steps: Floats) -> Iterator[Problem]:
    even = np.linspace(positions[0], positions[-1], len(positions))
    off = float(np.abs(positions - even).max())
    if off > POSITION_TOLERANCE_MM:
        yield Problem(
            f"distances from {steps.min():.2f} to {steps.max():.2f} mm: a slice is {off:.2f} mm off its place",
            f"uniform spacing, within {POSITION_TOLERANCE_MM} mm",
            "Allow the repair that interpolates between the slices' true positions.",
            repairable=True,
        )
