"""Pairs of scans of one piece of lung: vessels as chains of balls, a nodule, and a rigid motion between the scans."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from tests.support.chest import CENTER, distance_mm, lung_grid, lung_with_balls, write_nifti

GRID = lung_grid((1.0, 1.0, 1.25))
Balls = list[tuple[Sequence[float], float]]


def motion(degrees: float = 8.0, shift_mm: Sequence[float] = (7.0, -6.0, 7.7)) -> sitk.VersorRigid3DTransform:
    """A rotation about CENTER and an oblique axis, then a shift: by default of 12 mm."""
    transform = sitk.VersorRigid3DTransform()
    transform.SetCenter(CENTER)
    transform.SetRotation((0.48, 0.6, 0.64), np.radians(degrees))
    transform.SetTranslation(tuple(shift_mm))
    return transform


def vessels(seed: int = 0) -> Balls:
    generator = np.random.default_rng(seed)
    balls: Balls = []
    for _ in range(14):
        start, heading = np.add(CENTER, generator.uniform(-30, 30, 3)), generator.normal(size=3)
        heading /= np.linalg.norm(heading)
        steps = [start + step * heading for step in np.arange(-25, 25, 2.0)]
        # Not in the nodule.
        balls += [(place, 1.8) for place in steps if np.linalg.norm(place - CENTER) > 12]
    return balls


def lung(radius_mm: float = 6.0, moved: sitk.Transform | None = None, seed: int = 0, grid: Grid = GRID) -> sitk.Image:
    """A scan with the nodule at CENTER; `moved` moves the patient."""
    transform = moved or sitk.Transform(3, sitk.sitkIdentity)
    balls = [(transform.TransformPoint(np.asarray(place).tolist()), radius) for place, radius in vessels(seed)]
    return lung_with_balls(grid, [*balls, (transform.TransformPoint(CENTER), radius_mm)])


def write_mask(path: Path, radius_mm: float = 6.0, center: Sequence[float] = CENTER, grid: Grid = GRID) -> Path:
    return write_nifti(grid.image_of((distance_mm(grid, center) <= radius_mm).astype(np.uint8)), path)
