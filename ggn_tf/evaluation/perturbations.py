"""Perturbations of patches, for the test-retest analysis. Each is reproducible: it depends on the nodule's id alone."""

import hashlib
from typing import Final

import numpy as np

OFFSETS_MM: Final = (2.0, 4.0, 6.0, 8.0)
NOISE_HU: Final = 20.0
"""About the noise of a standard-dose chest CT. The variance of noise is inversely proportional to the dose, so that it
corresponds to half the dose where the CT itself has as much."""
SLICE_SPACINGS_MM: Final = (1.25, 2.5)
"""The section width of the paper's CTs (section 3.1), and a common one of older CTs."""
AXES: Final = "zyx"
MIRRORS: Final = ("z", "y", "x", "zy", "zx", "yx", "zyx")
"""With the patch as it is, the eight mirrors of three axes."""


def centre_offset(case_id: str, distance_mm: float, spacing_mm_zyx: tuple[float, float, float]) -> np.ndarray:
    """A centre that is off in a random direction, uniform on the sphere, one for each nodule and distance.

    Returns:
        int [3], voxels along z, y, x: the whole voxels nearest to the point, so that nothing is interpolated. Of 1.0,
        0.7, 0.7 mm they are at most 0.7 mm from it.
    """
    direction = _generator(case_id, f"centre {distance_mm:g}").normal(size=3)
    exact_mm = distance_mm * direction / np.linalg.norm(direction)
    return np.rint(exact_mm / np.array(spacing_mm_zyx)).astype(np.int64)


def add_noise(case_id: str, hu: np.ndarray) -> np.ndarray:
    """Add Gaussian noise of `NOISE_HU`, independent in each voxel, to Hounsfield units of any shape."""
    noise = _generator(case_id, "noise").standard_normal(hu.shape, np.float32)
    return hu + np.float32(NOISE_HU) * noise


def mirror(patches: np.ndarray, axes: str) -> np.ndarray:
    """Mirror patches [N, D, H, W, 1] along the named axes."""
    return np.flip(patches, tuple(1 + AXES.index(axis) for axis in axes))


def thicken_slices(hu: np.ndarray, slice_mm: float, step_mm: float) -> np.ndarray:
    """Resample patches [N, D, H, W, 1] to contiguous slices of `slice_mm`, and back to their layers of `step_mm`.

    A slice is the mean over its thickness, as on a scanner. Between the centres of slices the result is interpolated
    linearly; the first and the last slice are continued outwards. The slices are centred on the patch.
    """
    layers = hu.shape[1]
    at_layers, at_slices = _centres(layers, step_mm), _centres(int(layers * step_mm / slice_mm + 1e-6), slice_mm)
    starts, ends = (
        np.clip(at_layers + side * step_mm / 2, *(at_slices[:, np.newaxis] + end * slice_mm / 2 for end in (-1, 1)))
        for side in (-1, 1)
    )
    back = np.array([np.interp(at_layers, at_slices, column) for column in np.eye(len(at_slices))]).T
    there_and_back = (back @ (ends - starts) / slice_mm).astype(np.float32)
    return np.einsum("ij,njyxc->niyxc", there_and_back, hu, optimize=True)


def _centres(count: int, step_mm: float) -> np.ndarray:
    return (np.arange(count) - (count - 1) / 2) * step_mm


def _generator(case_id: str, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{purpose} of {case_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))
