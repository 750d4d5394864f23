"""Pairs of scans of one piece of lung: vessels as chains of balls, a nodule, and a rigid motion between the scans."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy.spatial import cKDTree

from ggn_tf.cases.geometry.grid import Grid
from tests.support.case_phantoms import points_of
from tests.support.chest import CENTER, LUNG_HU, NODULE_HU, distance_mm, lung_grid, write_nifti

GRID = lung_grid((1.0, 1.0, 1.25))
VESSEL_MM = 1.8


def motion(degrees: float = 8.0, shift_mm: Sequence[float] = (7.0, -6.0, 7.7)) -> sitk.VersorRigid3DTransform:
    """A rotation about CENTER and an oblique axis, then a shift: by default of 12 mm."""
    transform = sitk.VersorRigid3DTransform()
    transform.SetCenter(CENTER)
    transform.SetRotation((0.48, 0.6, 0.64), np.radians(degrees))
    transform.SetTranslation(tuple(shift_mm))
    return transform


def vessels(seed: int = 0) -> list[np.ndarray]:
    """The centres of the balls."""
    generator = np.random.default_rng(seed)
    places = []
    for _ in range(14):
        start, heading = np.add(CENTER, generator.uniform(-30, 30, 3)), generator.normal(size=3)
        heading /= np.linalg.norm(heading)
        places += [start + step * heading for step in np.arange(-25, 25, 2.0)]
    # Not in the patch around the nodule.
    return [place for place in places if np.linalg.norm(place - CENTER) > 23]


def lung(radius_mm: float = 6.0, moved: sitk.Transform | None = None, seed: int = 0, grid: Grid = GRID) -> sitk.Image:
    """A scan with the nodule at CENTER; `moved` moves the patient."""
    transform = moved or sitk.Transform(3, sitk.sitkIdentity)
    places = cKDTree([transform.TransformPoint(place.tolist()) for place in vessels(seed)])
    vessel_mm = places.query(points_of(grid), distance_upper_bound=4.0)[0] - VESSEL_MM
    nodule_mm = distance_mm(grid, transform.TransformPoint(CENTER)) - radius_mm
    share = np.clip(0.5 - np.minimum(vessel_mm, nodule_mm), 0, 1)
    return grid.image_of(np.rint(LUNG_HU * (1 - share) + NODULE_HU * share).astype(np.int16))


def write_mask(path: Path, radius_mm: float = 6.0, center: Sequence[float] = CENTER, grid: Grid = GRID) -> Path:
    return write_nifti(grid.image_of((distance_mm(grid, center) <= radius_mm).astype(np.uint8)), path)
