import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.masks import centroid_mm_lps
from ggn_tf.errors import MaskError
from tests.support.case_phantoms import noise, rotation
from tests.support.dicom_files import write_rtstruct
from tests.support.whole_volumes import read_mask

GRID = Grid.around((12.0, -31.0, 40.0), (60, 56, 20), (0.7, 0.7, 1.25), rotation(10, -5, 30))


def circle(level, radius_mm, center_xy=(29.3, 27.6)):
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    x, y = (c + radius_mm / 0.7 * f(angle) for c, f in zip(center_xy, (np.cos, np.sin), strict=True))
    return GRID.point_of(np.stack([x, y, np.full_like(x, level)], axis=-1))


@pytest.fixture
def write(save_series, tmp_path):
    source = save_series(noise(GRID)) / "0001.dcm"
    return lambda regions, **options: write_rtstruct(tmp_path / "rt.dcm", regions, source, **options)


def expected(*rings):
    """[z, y, x] of voxel centres within discs, by their distance and no polygon."""
    y, x = np.mgrid[0:56, 0:60]
    inside = np.zeros((20, 56, 60), dtype=bool)
    for level, radius_mm in rings:
        inside[level] ^= np.hypot(x - 29.3, y - 27.6) * 0.7 <= radius_mm
    return inside


def test_contours_are_filled_voxel_centre_by_voxel_centre(write):
    rings = [(9, 4.03), (10, 6.01), (11, 4.53)]
    path = write({"GTV": [circle(*ring) for ring in rings]})
    mask = sitk.GetArrayFromImage(read_mask(path, GRID))
    assert np.count_nonzero(mask != expected(*rings)) <= 2
    assert centroid_mm_lps(read_mask(path, GRID)) == pytest.approx(GRID.point_of((29.3, 27.6, 10)), abs=0.1)


def test_a_contour_within_another_is_a_hole(write):
    path = write({"GTV": [circle(10, 6.01), circle(10, 3.02)]})
    mask = sitk.GetArrayFromImage(read_mask(path, GRID))
    assert np.count_nonzero(mask != expected((10, 6.01), (10, 3.02))) <= 2


def test_the_region_is_picked_by_name_or_number(write):
    path = write({"Lung": [circle(10, 9.0)], "GTV": [circle(10, 4.03)]})
    assert sitk.GetArrayFromImage(read_mask(path, GRID, segment="GTV")).sum() == expected((10, 4.03)).sum()
    assert sitk.GetArrayFromImage(read_mask(path, GRID, segment="1")).sum() > expected((10, 8.9)).sum()
    with pytest.raises(MaskError, match="2 segments, and none is named") as caught:
        read_mask(path, GRID)
    assert caught.value.found == "segments Lung, GTV"


@pytest.mark.parametrize(
    ("level", "kind", "found"),
    [
        (10.4, "CLOSED_PLANAR", "a contour 0.50 mm off the nearest slice"),
        (25, "CLOSED_PLANAR", "a contour outside the CT"),
        (10, "POINT", "a contour of type POINT"),
    ],
)
def test_contours_that_lie_on_no_slice(write, level, kind, found):
    with pytest.raises(MaskError, match="structure set cannot be used") as caught:
        read_mask(write({"GTV": [circle(level, 4.0)]}, kind=kind), GRID)
    assert found in caught.value.found


def test_a_region_without_contours_is_empty(write):
    with pytest.raises(MaskError, match="The mask is empty"):
        read_mask(write({"GTV": []}), GRID)


def test_a_cut_structure_set(write):
    path = write({"GTV": [circle(10, 4.0)]})
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(MaskError, match=r"cannot be used|empty"):
        read_mask(path, GRID)
