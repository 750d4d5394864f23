import math
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.cases.registration import Registration, register
from ggn_tf.cases.volumes import Volume, open_volume
from tests.support.chest import CENTER, lung_grid, write_nifti
from tests.support.follow_scans import GRID, lung, motion


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scans")


@pytest.fixture(scope="module")
def earlier(folder: Path) -> Volume:
    return open_volume(write_nifti(lung(), folder / "earlier.nii"))


def registered(earlier: Volume, later: Volume, later_center=None) -> Registration:
    found = register(earlier, later, CENTER, later_center)
    assert found is not None
    return found


def test_a_scan_is_where_it_is(earlier: Volume):
    found = registered(earlier, earlier)
    assert found.shift_mm == (0, 0, 0) and found.rotation == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert (found.displacement_mm, found.rotation_degrees, found.overlap) == (0, 0, 1)
    assert found.correlation == pytest.approx(1) and found.rms_difference_hu < 1e-6
    assert not found.failed and not found.uncertain
    assert found.carried(CENTER) == CENTER


def test_two_blocks_of_one_scan_with_fine_voxels_are_the_same(folder: Path):
    fine = open_volume(write_nifti(lung(grid=lung_grid((0.5, 0.5, 0.625))), folder / "fine.nii"))
    assert registered(fine, fine).shift_mm == (0, 0, 0)


def test_a_rotation_by_8_degrees_and_a_shift_by_12_mm_are_found(earlier: Volume, folder: Path):
    moved = motion()
    other = lung_grid((0.8, 0.8, 1.0))
    later = open_volume(write_nifti(lung(6.5, moved, grid=other), folder / "moved.nii"))
    found = registered(earlier, later)
    for point in np.add(CENTER, [(0, 0, 0), (10, 0, 0), (0, -10, 0), (0, 0, 10)]).tolist():
        assert math.dist(found.carried(point), moved.TransformPoint(point)) < 0.3
        assert math.dist(found.carried_back(found.carried(point)), point) < 1e-6
    assert found.rotation_degrees == pytest.approx(8, abs=0.5)
    assert found.displacement_mm == pytest.approx(math.hypot(7, 6, 7.7), abs=0.3)
    assert found.correlation > 0.9 and not found.failed


def test_the_table_may_be_far_away(earlier: Volume, folder: Path):
    """Scanners' coordinates start anywhere: there is no overlap until the middles are put onto each other."""
    grid = GRID
    far = type(grid)(grid.size_xyz, grid.spacing_mm_xyz, tuple(np.add(grid.origin_mm_lps, (20, -90, 400)).tolist()))
    later = open_volume(write_nifti(lung(6.0, motion(3.0, (24, -87, 396)), grid=far), folder / "far.nii"))
    found = registered(earlier, later)
    assert math.dist(found.carried(CENTER), np.add(CENTER, (24, -87, 396))) < 0.3


def test_another_patient_fails(earlier: Volume, folder: Path):
    other = open_volume(write_nifti(lung(seed=5), folder / "other.nii"))
    assert registered(earlier, other, tuple(np.add(CENTER, (20, 0, 0)).tolist())).failed


def test_a_known_centre_is_where_the_search_begins(earlier: Volume, folder: Path):
    moved = motion(0.0, (18, 0, 0))
    later = open_volume(write_nifti(lung(6.0, moved), folder / "given.nii"))
    found = registered(earlier, later, moved.TransformPoint(CENTER))
    assert math.dist(found.carried(CENTER), moved.TransformPoint(CENTER)) < 0.3


def test_scans_that_do_not_overlap_have_no_registration(earlier: Volume):
    assert register(earlier, earlier, CENTER, (500.0, 500.0, 500.0)) is None
    assert register(earlier, earlier, (500.0, 500.0, 500.0)) is None
