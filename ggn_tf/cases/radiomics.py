"""Radiomic features of a nodule on the CT's own voxels: the input of the classifier without a network (Table 6)."""

import logging
import warnings
from functools import cache
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from threadpoolctl import ThreadpoolController

from ggn_tf.cases.dicom.slices import HIGHEST_HU
from ggn_tf.cases.geometry.grid import Grid, vector
from ggn_tf.errors import RadiomicsError

# pyradiomics's default. A part-solid nodule spans some -900 to 100 HU: 40 bins, in the range (30 to 130) in which its
# texture features are known to work.
BIN_WIDTH_HU = 25.0
# The order of the columns.
FAMILIES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")


def require_radiomics() -> None:
    """Raise RadiomicsError where pyradiomics is not installed."""
    try:
        import radiomics  # noqa: F401
    except ImportError as error:
        raise RadiomicsError(
            "Radiomic features need pyradiomics, which is not installed.",
            found=str(error),
            expected="the package pyradiomics 3.0.1",
            remedy="Build it with a C compiler by scripts/radiomics.sh, or leave the radiomic features out.",
            arguments=("radiomics",),
        ) from error


def radiomics_settings(bin_width_hu: float = BIN_WIDTH_HU) -> dict[str, Any]:
    """The settings that determine the features' values, as JSON types.

    Raises:
        RadiomicsError: pyradiomics is not installed.
    """
    require_radiomics()
    import radiomics

    return {
        "software": f"pyradiomics {radiomics.__version__.lstrip('v')}",
        "bin_width_hu": bin_width_hu,
        "highest_hu": HIGHEST_HU,
        "voxels": "native",
        "families": list(FAMILIES),
    }


def measure_radiomics(image: sitk.Image, mask: sitk.Image, bin_width_hu: float = BIN_WIDTH_HU) -> dict[str, float]:
    """Measure a nodule's radiomic features, without filters and without resampling.

    Textures use the 3D neighbourhood of 26 voxels, whatever their spacing; grey levels are bins of a fixed width.
    Values above 3071 HU, metal on extended scales, count as 3071: texture matrices grow with the square of the grey
    levels.

    Args:
        image: Hounsfield units of a block that contains the nodule.
        mask: The nodule, 0 or 1, on a block of the same CT that may be smaller.
        bin_width_hu: Width of a grey level.

    Returns:
        107 features, named `<family>_<feature>` as in pyradiomics, always the same and in the same order. NaN where a
        mask is too small for a feature: two neighbouring voxels have every feature but one; a single voxel has its
        size, its Hounsfield units, and no texture.

    Raises:
        RadiomicsError: pyradiomics is not installed.
    """
    require_radiomics()
    hu, nodule = _framed(image, mask)
    features: dict[str, float] = {}
    # With several threads, the eigenvalues of small matrices take six times the processor time.
    with warnings.catch_warnings(), np.errstate(all="ignore"), _threads().limit(limits=1):
        # Undefined features are NaN.
        warnings.simplefilter("ignore", RuntimeWarning)
        for family, measurer in _measurers().items():
            measuring = measurer(hu, nodule, binWidth=bin_width_hu)
            measuring.enableAllFeatures()
            values = measuring.execute()
            features |= {f"{family}_{name}": _finite(value) for name, value in sorted(values.items())}
    return features


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


@cache
def _measurers() -> dict[str, Any]:
    import radiomics

    # It logs for every GLCM that its sum average is twice the joint average.
    radiomics.setVerbosity(logging.CRITICAL)
    classes = radiomics.getFeatureClasses()
    return {family: classes[family] for family in FAMILIES}


def _framed(image: sitk.Image, mask: sitk.Image) -> tuple[sitk.Image, sitk.Image]:
    """CT and mask on the mask's block with a margin of one voxel: pyradiomics fails on a single voxel at the rim."""
    grid = Grid.from_image(mask)
    box = Grid.from_image(image).block_of(grid)
    if box is None:
        raise ValueError(f"Expected a mask on a block of the CT. Received: {grid} on {Grid.from_image(image)}")
    values = np.minimum(sitk.GetArrayViewFromImage(image)[box.slices_zyx], HIGHEST_HU, dtype=np.float64)
    hu = np.pad(values, 1, mode="edge")
    inside = np.pad(sitk.GetArrayViewFromImage(mask) > 0, 1).astype(np.uint8)
    origin = vector(grid.point_of((-1, -1, -1)))
    framed = Grid(tuple(inside.shape[::-1]), grid.spacing_mm_xyz, origin, grid.direction)
    return framed.image_of(hu), framed.image_of(inside)


def _finite(value: Any) -> float:
    number = float(np.real(value))
    return number if np.isfinite(number) else float("nan")
