"""Distances between the surfaces of a predicted and a reference mask, and their volumes, on the patch's grid.

A surface is the voxels of a mask that have a neighbour, across a face, outside it; distances are between voxel centres,
as in MONAI and Metrics Reloaded (Maier-Hein et al. 2024).
"""

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

HD95, SURFACE_DISTANCE, SURFACE_DICE = "hd95_mm", "surface_distance_mm", "surface_dice_1mm"
PREDICTED_VOLUME, REFERENCE_VOLUME = "predicted_mm3", "reference_mm3"
MASK_COLUMNS = (HD95, SURFACE_DISTANCE, SURFACE_DICE, PREDICTED_VOLUME, REFERENCE_VOLUME)
TOLERANCE_MM = 1.0


def measure_masks(
    reference: np.ndarray, predicted: np.ndarray, spacing_mm_zyx: tuple[float, float, float]
) -> np.ndarray:
    """Compare masks, bool [N, D, H, W] both.

    Returns:
        float64 [N, 5], the columns as in `MASK_COLUMNS`. The larger of the 95th percentiles of the distances from
        either surface to the other; the mean of all distances; the share of both surfaces that is within 1 mm of the
        other; both volumes. Distances are NaN where a mask is empty; the share is then 0, or 1 where both are.
    """
    rows = [_compare(truth, found, spacing_mm_zyx) for truth, found in zip(reference, predicted, strict=True)]
    return np.array(rows, np.float64).reshape(-1, len(MASK_COLUMNS))


def _compare(truth: np.ndarray, found: np.ndarray, spacing: tuple[float, float, float]) -> tuple[float, ...]:
    voxel_mm3 = float(np.prod(spacing))
    volumes = (float(found.sum()) * voxel_mm3, float(truth.sum()) * voxel_mm3)
    if not (truth.any() and found.any()):
        return (np.nan, np.nan, float(not truth.any() and not found.any()), *volumes)
    # Nothing outside the box around both masks is nearer to a surface.
    box = tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(truth | found))
    surfaces = [mask & ~binary_erosion(mask) for mask in (truth[box], found[box])]
    to_truth, to_found = (distance_transform_edt(~surface, sampling=spacing) for surface in surfaces)
    directed = [to_found[surfaces[0]], to_truth[surfaces[1]]]
    distances = np.concatenate(directed)
    within = float(np.mean(distances <= TOLERANCE_MM + 1e-9))
    return (max(float(np.percentile(part, 95)) for part in directed), float(distances.mean()), within, *volumes)
