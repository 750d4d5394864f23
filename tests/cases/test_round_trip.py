"""A nodule whose place, volume and values are known, through every container and orientation."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import CENTER, points_of, ramp_hu, rotation

PROTOCOL = PatchProtocol()
FLIPS = [tuple(np.diag(signs).ravel().tolist()) for signs in itertools.product((1.0, -1.0), repeat=3)]
SPACINGS = [(0.7, 0.7, 1.0), (0.46, 0.46, 2.5), (0.98, 0.98, 0.45)]
HALF_MM = np.array([11.0, 12.5, 10.0])


def phantom(direction, spacing):
    """A CT that is a plane in world coordinates, and a box of voxels whose middle is CENTER to the last digit."""
    size = tuple(int(2 * round(36 / step) + 1) for step in spacing)
    grid = Grid.around(CENTER, size, spacing, direction)
    reach = np.floor(HALF_MM / spacing).astype(int)
    middle = (np.array(size) - 1) // 2
    inside = np.zeros(size[::-1], dtype=np.uint8)
    inside[tuple(slice(m - r, m + r + 1) for m, r in zip(middle[::-1], reach[::-1], strict=True))] = 1
    values = np.rint(ramp_hu(points_of(grid))).astype(np.int16)
    return grid.image_of(values), grid.image_of(inside), float(np.prod((2 * reach + 1) * spacing))


def check(ct, mask, volume_mm3):
    patch = cut_patch_from(ct, NoduleTarget(mask), PROTOCOL)
    assert np.linalg.norm(np.subtract(patch.center_mm_lps, CENTER)) < 0.01
    assert patch.measurements.volume_mm3 == pytest.approx(volume_mm3, rel=0.01)
    np.testing.assert_allclose(patch.hu, np.maximum(ramp_hu(points_of(patch.grid)), -1024), atol=1.0, rtol=0)


@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "nrrd", "mha"])
@pytest.mark.parametrize("direction", [*FLIPS, rotation(12, -7, 33)])
def test_volume_files_in_every_orientation(save, direction, suffix):
    ct, mask, volume_mm3 = phantom(direction, SPACINGS[0])
    check(save(ct, f"ct.{suffix}"), save(mask, f"mask.{suffix}"), volume_mm3)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("ct_suffix", "mask_suffix"), [("nii.gz", "nrrd"), ("nrrd", "nii.gz")])
def test_three_spacings_and_mixed_containers(save, spacing, ct_suffix, mask_suffix):
    ct, mask, volume_mm3 = phantom(rotation(12, -7, 33), spacing)
    check(save(ct, f"ct.{ct_suffix}"), save(mask, f"mask.{mask_suffix}"), volume_mm3)


@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 0, 180), (180, 0, 0), (90, 0, 0), (12, -7, 33)])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_dicom_series(save_series, save, angles, spacing):
    ct, mask, volume_mm3 = phantom(rotation(*angles), spacing)
    check(save_series(ct), save(mask, "mask.nii.gz"), volume_mm3)


def test_a_sheared_volume_is_refused_in_every_container(save):
    ct, mask, _ = phantom(FLIPS[0], SPACINGS[0])
    path = save(ct, "ct.nrrd")
    text = path.read_bytes()
    assert b"(0,0.69999999999999996,0)" in text
    path.write_bytes(text.replace(b"(0,0.69999999999999996,0)", b"(0.1,0.69999999999999996,0)"))
    with pytest.raises(Exception, match=r"not at right angles|no image") as caught:
        cut_patch_from(path, NoduleTarget(save(mask, "mask.nrrd")), PROTOCOL)
    assert caught.value.remedy
    assert sitk.ReadImage(str(save(mask, "mask.nrrd"))).GetSize() == mask.GetSize()
