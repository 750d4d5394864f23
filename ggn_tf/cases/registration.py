"""The rigid registration of two CTs where a nodule is.

Rigid, because a growing nodule must not be registered away, and local, because a chest is not rigid. First overviews of
the whole CTs are registered, then the block around the nodule. The metric is the mean square difference of Hounsfield
units, which have one scale in both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Floats, Grid, Vector, vector
from ggn_tf.cases.volumes import Volume
from ggn_tf.protocol import AIR_HU

BLOCK_MM = 60.0
"""Edge of the registered block: some of the vessels and lobes around a nodule."""
LEAST_CORRELATION = 0.6
"""Below it the registration has failed: half of the pairs of different patients are (docs/follow-up.md)."""
LEAST_OVERLAP = 0.5
"""The later CT must contain this fraction of the block."""
MOST_ROTATION_DEGREES = 30.0
"""More is a warning: patients are on their back in both scans, or are turned by far more."""
SURE_CORRELATION = 0.95
"""From it on no further start is tried; below it there is a warning. Pairs of different patients reached 0.92."""
# How far the overviews may be wrong where the chest moved: the later block is larger by this on every side.
_MARGIN_MM = 25.0
_OVERVIEW_MM, _VOXEL_MM = 5.0, 1.0
# Bone and contrast agents would outweigh the lung.
_HIGHEST_HU = 200.0
_STEPS = 200
# Fractions of the voxels that the metric is computed from, level by level: it is as exact, and three times as fast.
_SAMPLED = (1.0, 0.5, 0.15)
# With less there may be no sample in both.
_OVERLAP_AT_START = 0.2
_FEWEST_VOXELS = 4
# No value of a CT.
_OUTSIDE = -32768.0
_STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Registration:
    """Where points of the earlier CT are in the later one.

    Attributes:
        rotation: Three rows of three numbers; a point p of the earlier CT is at rotation (p - center) + center + shift.
        center_mm_lps: The nodule's centre in the earlier CT.
        shift_mm: The displacement of this centre along L, P, S.
        rms_difference_hu: Root of the metric, over the block; infinite where the blocks do not overlap.
        correlation: Pearson's, of the Hounsfield units of the block in both CTs.
        overlap: Fraction of the block that the later CT contains.
    """

    rotation: tuple[float, ...]
    center_mm_lps: Vector
    shift_mm: Vector
    rms_difference_hu: float
    correlation: float
    overlap: float

    @property
    def rotation_degrees(self) -> float:
        """The angle of the rotation."""
        trace = self.rotation[0] + self.rotation[4] + self.rotation[8]
        return float(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))

    @property
    def displacement_mm(self) -> float:
        """How far the nodule's centre is from where it was, in the scanners' coordinates."""
        return float(np.linalg.norm(self.shift_mm))

    @property
    def failed(self) -> bool:
        """Whether it must not be used: the blocks are not alike, or hardly overlap."""
        return not (self.correlation >= LEAST_CORRELATION and self.overlap >= LEAST_OVERLAP)

    @property
    def uncertain(self) -> bool:
        """Whether it may be wrong."""
        return self.correlation < SURE_CORRELATION or self.rotation_degrees > MOST_ROTATION_DEGREES

    def carried(self, point_mm_lps: Vector) -> Vector:
        """A point of the earlier CT in the later one."""
        return vector(self.transform().TransformPoint(point_mm_lps))

    def carried_back(self, point_mm_lps: Vector) -> Vector:
        """A point of the later CT in the earlier one."""
        return vector(self.transform().GetInverse().TransformPoint(point_mm_lps))

    def shifted_to(self, later_center_mm_lps: Vector) -> Self:
        """The shift that carries the nodule's centre to a point; how the blocks fit stays that of what was found."""
        shift = vector(np.subtract(later_center_mm_lps, self.center_mm_lps))
        return replace(self, rotation=_STRAIGHT, shift_mm=shift)

    def transform(self) -> sitk.Transform:
        """From the earlier CT to the later one, as SimpleITK has it."""
        transform = sitk.AffineTransform(3)
        transform.SetCenter(self.center_mm_lps)
        transform.SetMatrix(self.rotation)
        transform.SetTranslation(self.shift_mm)
        return transform


def register(
    earlier: Volume, later: Volume, center_mm_lps: Vector, later_center_mm_lps: Vector | None = None
) -> Registration | None:
    """Register the later CT to the earlier one where a nodule is.

    Returns:
        The best of what was found from several starts: the known centre, or that both CTs have the same coordinates,
        that their middles are one point, and how their overviews fit. None: the CTs do not overlap from any of them.
        Whether it can be used is for the caller to decide.

    Raises:
        VolumeError: A CT cannot be read.
    """
    fixed = _block(earlier, center_mm_lps, BLOCK_MM / 2)
    best: Registration | None = None
    for start in _starts(earlier, later, center_mm_lps, later_center_mm_lps):
        moving = _block(later, vector(start.TransformPoint(center_mm_lps)), BLOCK_MM / 2 + _MARGIN_MM)
        if fixed is None or moving is None:
            continue
        # The start itself comes first: only a better fit moves a CT that is in its place.
        found = [_compared(fixed, moving, start)]
        if found[0].overlap >= _OVERLAP_AT_START:
            refined = _refined(fixed, moving, start, [4, 2, 1], [4.0, 2.0, 0.0])
            found += [] if refined is None else [_compared(fixed, moving, refined)]
        best = min(
            [*found, *([best] if best else [])], key=lambda fit: (fit.overlap < LEAST_OVERLAP, fit.rms_difference_hu)
        )
        if best.correlation >= SURE_CORRELATION and not best.failed:
            break
    return best


def _starts(
    earlier: Volume, later: Volume, center_mm_lps: Vector, later_center_mm_lps: Vector | None
) -> Iterator[sitk.Euler3DTransform]:
    if later_center_mm_lps is not None:
        yield _shifted(center_mm_lps, np.subtract(later_center_mm_lps, center_mm_lps))
        return
    here, there = (volume.grid.corners_mm_lps().mean(axis=0) for volume in (earlier, later))
    simple = [_shifted(center_mm_lps, shift) for shift in (np.zeros(3), there - here)]
    yield from simple
    overviews = (_overview(earlier), _overview(later))
    for start in simple:
        if _compared(*overviews, start).overlap >= _OVERLAP_AT_START:
            refined = _refined(*overviews, start, [4, 2], [8.0, 4.0])
            yield from [] if refined is None else [refined]


def _shifted(center_mm_lps: Vector, shift_mm: Floats) -> sitk.Euler3DTransform:
    transform = sitk.Euler3DTransform()
    transform.SetCenter(center_mm_lps)
    transform.SetTranslation(vector(shift_mm))
    return transform


def _block(volume: Volume, center_mm_lps: Vector, half_mm: float) -> sitk.Image | None:
    """The CT's voxels around a point; None where it has too few there."""
    edge = int(2 * half_mm) + 1
    box = volume.grid.box_around(Grid.around(center_mm_lps, (edge,) * 3, (1.0, 1.0, 1.0), _STRAIGHT))
    if box is None:
        return None
    # Two blocks of one CT are shrunk to the same voxels.
    factors = _factors(volume.grid.spacing_mm_xyz, _VOXEL_MM)
    box = Box.between(
        [start - start % factor for start, factor in zip(box.start_xyz, factors, strict=True)], box.last_xyz
    )
    if any(size // factor < _FEWEST_VOXELS for size, factor in zip(box.size_xyz, factors, strict=True)):
        return None
    return _shrunk(volume.read(box), factors)


def _overview(volume: Volume) -> sitk.Image:
    factors = _factors(volume.grid.spacing_mm_xyz, _OVERVIEW_MM)
    fewest = [max(1, size // _FEWEST_VOXELS) for size in volume.grid.size_xyz]
    return _shrunk(volume.read(), np.minimum(factors, fewest).tolist())


def _factors(spacing_mm_xyz: Vector, voxel_mm: float) -> list[int]:
    return [max(1, round(voxel_mm / step)) for step in spacing_mm_xyz]


def _shrunk(image: sitk.Image, factors: Sequence[int]) -> sitk.Image:
    """Means of voxels, without what is denser than soft tissue."""
    return sitk.BinShrink(sitk.Clamp(image, sitk.sitkFloat32, AIR_HU, _HIGHEST_HU), factors)


def _refined(
    fixed: sitk.Image,
    moving: sitk.Image,
    start: sitk.Euler3DTransform,
    factors: Sequence[int],
    sigmas_mm: Sequence[float],
) -> sitk.Euler3DTransform | None:
    """The rigid transform that the metric leads to; None where the images do not overlap."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=_STEPS, gradientMagnitudeTolerance=1e-8
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentagePerLevel(_SAMPLED[: len(factors)], seed=1)
    method.SetShrinkFactorsPerLevel(factors)
    method.SetSmoothingSigmasPerLevel(sigmas_mm)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    # ITK prints one for every step at which one image is moved out of the other.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:
        return None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    return transform


def _compared(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Euler3DTransform) -> Registration:
    """A transform with how well it fits."""
    here = sitk.GetArrayViewFromImage(fixed)
    there = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, _OUTSIDE))
    both = there > _OUTSIDE
    one, other = here[both].astype(np.float64), there[both].astype(np.float64)
    alike = both.any() and one.std() > 0 and other.std() > 0
    return Registration(
        rotation=tuple(transform.GetMatrix()),
        center_mm_lps=transform.GetCenter(),
        shift_mm=transform.GetTranslation(),
        rms_difference_hu=float(np.sqrt(np.mean((one - other) ** 2))) if both.any() else float("inf"),
        correlation=float(np.corrcoef(one, other)[0, 1]) if alike else 0.0,
        overlap=float(both.mean()),
    )
