import importlib.util
import sys

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.radiomics import FAMILIES, measure_radiomics, radiomics_settings, require_radiomics
from ggn_tf.errors import RadiomicsError
from tests.support.case_phantoms import ball, noise

# The digital phantom of the Image Biomarker Standardisation Initiative (Zwanenburg et al. 2016, arXiv:1612.07003,
# chapter 5): [z, y, x], 2 mm voxels, 0 outside the region of interest.
PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)

# The initiative's reference values for it, to the three digits that it publishes; texture matrices in 3D, averaged over
# directions. Its kurtosis counts from 3. Its axis lengths divide by one voxel less, so they are left out.
REFERENCE = {
    "shape_MeshVolume": 556,
    "shape_VoxelVolume": 592,
    "shape_SurfaceArea": 388,
    "shape_SurfaceVolumeRatio": 0.698,
    "shape_Sphericity": 0.843,
    "shape_Maximum3DDiameter": 13.1,
    "shape_Elongation": 0.816,
    "shape_Flatness": 0.749,
    "firstorder_Mean": 2.15,
    "firstorder_Variance": 3.05,
    "firstorder_Skewness": 1.08,
    "firstorder_Kurtosis": 3 - 0.355,
    "firstorder_Median": 1,
    "firstorder_90Percentile": 4,
    "firstorder_InterquartileRange": 3,
    "firstorder_MeanAbsoluteDeviation": 1.55,
    "firstorder_RobustMeanAbsoluteDeviation": 1.11,
    "firstorder_Energy": 567,
    "firstorder_RootMeanSquared": 2.77,
    "firstorder_Entropy": 1.27,
    "firstorder_Uniformity": 0.512,
    "glcm_DifferenceAverage": 1.43,
    "glcm_Id": 0.677,
    "glcm_Idn": 0.851,
    "glcm_Idm": 0.618,
    "glcm_Idmn": 0.898,
    "glcm_InverseVariance": 0.0604,
    "glrlm_ShortRunLowGrayLevelEmphasis": 0.352,
    "glrlm_ShortRunHighGrayLevelEmphasis": 8.54,
    "glrlm_LongRunLowGrayLevelEmphasis": 2.39,
    "glrlm_LongRunHighGrayLevelEmphasis": 17.6,
    "glrlm_GrayLevelNonUniformity": 21.8,
    "glrlm_GrayLevelNonUniformityNormalized": 0.43,
    "glrlm_RunLengthNonUniformity": 26.9,
    "glszm_SmallAreaEmphasis": 0.255,
    "glszm_LargeAreaEmphasis": 550,
    "glszm_LowGrayLevelZoneEmphasis": 0.253,
    "glszm_HighGrayLevelZoneEmphasis": 15.6,
    "glszm_SmallAreaHighGrayLevelEmphasis": 2.76,
    "glszm_ZonePercentage": 0.0676,
    "glszm_ZoneVariance": 331,
    "glszm_ZoneEntropy": 2.32,
    "gldm_SmallDependenceEmphasis": 0.045,
    "gldm_LargeDependenceEmphasis": 109,
    "gldm_LowGrayLevelEmphasis": 0.693,
    "gldm_HighGrayLevelEmphasis": 7.66,
    "gldm_SmallDependenceHighGrayLevelEmphasis": 0.736,
    "gldm_LargeDependenceHighGrayLevelEmphasis": 235,
    "gldm_GrayLevelNonUniformity": 37.9,
    "ngtdm_Coarseness": 0.0296,
    "ngtdm_Contrast": 0.584,
    "ngtdm_Busyness": 6.54,
    "ngtdm_Complexity": 13.5,
    "ngtdm_Strength": 0.763,
}

needs_pyradiomics = pytest.mark.skipif(
    importlib.util.find_spec("radiomics") is None,
    reason="pyradiomics is not installed; scripts/radiomics.sh builds it with a C compiler",
)


def image_of(values: np.ndarray, spacing: float = 2.0) -> sitk.Image:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((spacing,) * 3)
    return image


def measure_alone(inside: np.ndarray, seed: int = 0) -> dict[str, float]:
    """A mask that fills its block to the rim, in noise."""
    hu = np.random.default_rng(seed).normal(-400, 100, inside.shape).astype(np.float32)
    return measure_radiomics(image_of(hu), image_of(inside.astype(np.uint8)))


@pytest.fixture(scope="module")
def phantom() -> dict[str, float]:
    image, mask = image_of(PHANTOM.astype(np.float32)), image_of((PHANTOM > 0).astype(np.uint8))
    return measure_radiomics(image, mask, bin_width_hu=1.0)


@needs_pyradiomics
@pytest.mark.parametrize("name", REFERENCE)
def test_the_digital_phantom_has_the_initiatives_values(phantom: dict[str, float], name: str) -> None:
    assert phantom[name] == pytest.approx(REFERENCE[name], rel=5.1e-3)


@needs_pyradiomics
def test_every_family_is_measured_and_none_twice(phantom: dict[str, float]) -> None:
    counts = {family: sum(name.startswith(f"{family}_") for name in phantom) for family in FAMILIES}
    assert counts == {
        "shape": 14, "firstorder": 18, "glcm": 24, "glrlm": 16, "glszm": 16, "gldm": 14, "ngtdm": 5,
    }  # fmt: skip


@needs_pyradiomics
def test_a_mask_on_a_part_of_the_ct_measures_as_on_the_whole(grid: Grid) -> None:
    image, mask = sitk.Cast(noise(grid), sitk.sitkFloat32), ball(grid)
    box = Box((12, 9, 4), (33, 30, 20))
    inside = sitk.GetArrayFromImage(mask)
    part = grid.part(box).image_of(inside[box.slices_zyx])
    assert inside[box.slices_zyx].sum() == inside.sum()
    assert measure_radiomics(image, part) == pytest.approx(measure_radiomics(image, mask), rel=1e-12)


@needs_pyradiomics
def test_what_is_outside_the_mask_does_not_count(grid: Grid) -> None:
    mask = ball(grid)
    hu = sitk.GetArrayFromImage(noise(grid)).astype(np.float32)
    elsewhere = np.where(sitk.GetArrayViewFromImage(mask) > 0, hu, 3000).astype(np.float32)
    assert measure_radiomics(grid.image_of(elsewhere), mask) == measure_radiomics(grid.image_of(hu), mask)


@needs_pyradiomics
def test_a_lone_voxel_has_size_and_density_and_no_texture() -> None:
    features = measure_alone(np.ones((1, 1, 1)))
    assert list(features) == list(measure_alone(np.ones((4, 4, 4))))
    assert features["shape_VoxelVolume"] == 8
    assert features["firstorder_Mean"] == pytest.approx(np.random.default_rng(0).normal(-400, 100), rel=1e-6)
    families = {name.split("_")[0] for name, value in features.items() if np.isnan(value)}
    assert families == {"shape", "glcm", "glrlm"}


@needs_pyradiomics
@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 1, 5), (1, 4, 5), (6, 1, 1), (3, 3, 3)])
def test_flat_and_tiny_masks_have_nearly_all_features(shape: tuple[int, ...]) -> None:
    undefined = {name for name, value in measure_alone(np.ones(shape)).items() if np.isnan(value)}
    assert undefined <= {"firstorder_RobustMeanAbsoluteDeviation"}


@needs_pyradiomics
def test_one_grey_level_alone_is_no_obstacle() -> None:
    features = measure_radiomics(image_of(np.full((4, 4, 4), -300, np.float32)), image_of(np.ones((4, 4, 4), np.uint8)))
    assert np.isfinite(list(features.values())).all()
    assert features["firstorder_Entropy"] == pytest.approx(0, abs=1e-12)


@needs_pyradiomics
def test_metal_on_an_extended_scale_neither_takes_all_memory_nor_counts_above_the_scales_end() -> None:
    hu = np.random.default_rng(0).normal(-400, 100, (6, 6, 6)).astype(np.float32)
    hu[2, 2, 2] = 3e7
    features = measure_radiomics(image_of(hu), image_of(np.ones((6, 6, 6), np.uint8)))
    assert features["firstorder_Maximum"] == 3071


@needs_pyradiomics
def test_a_mask_between_the_voxels_is_no_mask_of_this_ct() -> None:
    mask = image_of(np.ones((2, 2, 2), np.uint8))
    mask.SetOrigin((0.5, 0, 0))
    with pytest.raises(ValueError, match="a mask on a block of the CT"):
        measure_radiomics(image_of(np.zeros((4, 4, 4), np.float32)), mask)


@needs_pyradiomics
def test_the_settings_name_the_software_and_the_bins() -> None:
    settings = radiomics_settings()
    assert settings["software"].startswith("pyradiomics 3.")
    assert settings["bin_width_hu"] == 25.0


def test_without_pyradiomics_the_remedy_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "radiomics", None)
    with pytest.raises(RadiomicsError, match=r"which is not installed(?s:.*)scripts/radiomics\.sh"):
        require_radiomics()
