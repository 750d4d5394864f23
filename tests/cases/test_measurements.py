import numpy as np
import pytest

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.measurements import measure
from tests.support.chest import STRAIGHT


def measured(inside: np.ndarray, hu: np.ndarray | float = -600.0, spacing_xyz=(0.7, 0.7, 1.25), **options: float):
    grid = Grid(inside.shape[::-1], spacing_xyz, (0.0, 0.0, 0.0), STRAIGHT)
    image = grid.image_of(np.broadcast_to(np.asarray(hu, np.float32), inside.shape).copy())
    return measure(image, grid.image_of(inside.astype(np.uint8)), **options)


def ellipsoid(shape, spacing_zyx, radii_zyx_mm, angle=0.0):
    z, y, x = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing_zyx, strict=True))
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (z / radii_zyx_mm[0]) ** 2 + (v / radii_zyx_mm[1]) ** 2 + (u / radii_zyx_mm[2]) ** 2 <= 1


@pytest.mark.parametrize("angle", [0.0, 0.4, 0.9, 2.0])
@pytest.mark.parametrize("spacing", [(0.6, 0.6, 0.6), (0.7, 0.7, 1.25), (0.9, 0.9, 2.5)])
def test_axes_of_an_ellipsoid(angle: float, spacing: tuple[float, float, float]):
    zyx = spacing[::-1]
    shape = tuple(int(2 * 14 / step) for step in zyx)
    found = measured(ellipsoid(shape, zyx, (6.0, 5.0, 9.0), angle), spacing_xyz=spacing)
    assert found.longest_diameter_mm == pytest.approx(18.0, abs=spacing[0])
    assert found.perpendicular_diameter_mm == pytest.approx(10.0, abs=spacing[0])
    assert found.mean_diameter_mm == pytest.approx(14.0, rel=0.05)
    assert found.diameter_3d_mm == pytest.approx(18.0, rel=0.05)
    assert found.volume_mm3 == pytest.approx(4 / 3 * np.pi * 6 * 5 * 9, rel=0.05)
    assert found.mass_mg == pytest.approx(0.4 * found.volume_mm3)


@pytest.mark.parametrize("spacing", [(0.6, 0.6, 0.6), (0.7, 0.7, 1.25), (0.9, 0.9, 2.5)])
def test_the_solid_part_of_a_known_size_is_measured(spacing: tuple[float, float, float]):
    zyx = spacing[::-1]
    shape = tuple(int(2 * 14 / step) for step in zyx)
    core = ellipsoid(shape, zyx, (5.0, 4.5, 6.0), 0.4)
    found = measured(ellipsoid(shape, zyx, (9.0, 8.0, 12.0), 0.4), np.where(core, 0.0, -600.0), spacing_xyz=spacing)
    assert found.solid_volume_mm3 == pytest.approx(4 / 3 * np.pi * 5 * 4.5 * 6, rel=0.05)
    assert found.solid_longest_diameter_mm == pytest.approx(12.0, rel=0.05)
    assert found.consolidation_to_tumor_ratio == pytest.approx(0.5, rel=0.05)


def test_the_long_axis_is_within_a_slice_and_the_3d_diameter_is_not():
    inside = np.zeros((12, 10, 10), bool)
    inside[1:11, 4:6, 4:6] = True
    found = measured(inside, spacing_xyz=(1.0, 1.0, 1.0))
    assert found.longest_diameter_mm == pytest.approx(np.sqrt(2) + 1)
    assert found.diameter_3d_mm == pytest.approx(np.sqrt(9**2 + 1 + 1) + 1)


def test_one_voxel():
    inside = np.zeros((3, 3, 3), bool)
    inside[1, 1, 1] = True
    found = measured(inside, spacing_xyz=(1.0, 1.0, 2.0))
    assert (found.longest_diameter_mm, found.perpendicular_diameter_mm) == (1.0, pytest.approx(1.0, abs=0.26))
    assert found.diameter_3d_mm == 2.0


def test_the_solid_part_is_the_largest_connected_one():
    inside = ellipsoid((24, 40, 40), (1.0, 1.0, 1.0), (9.0, 15.0, 15.0))
    hu = np.full(inside.shape, -650.0)
    hu[8:16, 16:24, 10:20] = 0.0  # 8 x 8 x 10 voxels
    hu[11:13, 19:21, 30:32] = 20.0  # a vessel apart
    found = measured(inside, hu, spacing_xyz=(1.0, 1.0, 1.0))
    assert found.solid_volume_mm3 == 640 + 8
    assert found.solid_longest_diameter_mm == pytest.approx(np.hypot(7, 9) + 1)
    assert found.consolidation_to_tumor_ratio == pytest.approx(found.solid_longest_diameter_mm / 30, rel=0.05)
    assert measured(inside, hu, spacing_xyz=(1.0, 1.0, 1.0), solid_hu=10.0).solid_volume_mm3 == 8


def test_without_a_solid_part_its_measurements_are_zero():
    found = measured(ellipsoid((12, 12, 12), (1.0, 1.0, 1.0), (4.0, 4.0, 4.0)), spacing_xyz=(1.0, 1.0, 1.0))
    assert found[-5:] == (0.0, 0.0, 0.0, 0.0, -300.0)


def test_what_is_below_air_has_no_negative_mass():
    assert measured(np.ones((2, 2, 2), bool), -1010.0).mass_mg == 0.0


def test_what_is_solid_depends_on_the_threshold_which_is_recorded():
    hu = np.full((4, 4, 4), -400.0)
    hu[:2] = -250.0
    hu[0] = -100.0
    for threshold, fraction in ((-300.0, 0.5), (-250.0, 0.25), (-160.0, 0.25), (-450.0, 1.0)):
        found = measured(np.ones((4, 4, 4), bool), hu, spacing_xyz=(1.0, 1.0, 1.0), solid_hu=threshold)
        assert (found.solid_hu, found.solid_fraction, found.solid_volume_mm3) == (threshold, fraction, 64 * fraction)
    assert measured(np.ones((4, 4, 4), bool), hu).solid_hu == -300.0
