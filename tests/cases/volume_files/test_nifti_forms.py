"""NIfTI files whose qform and sform put the voxels in different places."""

import gzip

import numpy as np
import pytest

from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import CutOptions, cut_patch_from
from ggn_tf.cases.volume_files.nifti import NiftiForms, read_nifti_header
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import MaskError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import CENTER, ball, ramp, rotation

PROTOCOL = PatchProtocol()
GRID = Grid.around(CENTER, (50, 46, 30), (0.83, 0.83, 1.7), rotation(12, -7, 33))


def edit_header(path, change):
    """Change the 348 bytes of a header, which may be compressed."""
    packed = path.suffix == ".gz"
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    change(content)
    path.write_bytes(gzip.compress(bytes(content)) if packed else content)
    return path


def move_qform(mm, *, code=1):
    def change(header):
        offset = np.frombuffer(header[268:272], "<f4") + np.float32(mm)
        header[252:254] = np.array([code], "<i2").tobytes()
        header[268:272] = offset.tobytes()

    return change


@pytest.mark.parametrize("angles", [(0, 0, 0), (12, -7, 33), (180, 0, 90), (90, 0, 0)])
def test_forms_that_agree_are_no_reason_for_a_note(save, angles):
    grid = Grid.around(CENTER, (20, 18, 16), (0.83, 0.71, 1.7), rotation(*angles))
    header = read_nifti_header(save(ball(grid), "a.nii"))
    assert header.qform_lps is not None
    assert NiftiForms.differing(header) is None


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_the_sform_counts_and_both_are_named(save, name):
    path = edit_header(save(ramp(GRID), name), move_qform(10))
    volume = open_volume(path)
    assert volume.stored_grid.same_as(GRID, 1e-3)
    (note,) = volume.repaired
    assert "qform and sform are up to 10.00 mm apart" in note
    patch = cut_patch_from(path, NoduleTarget(save(ball(GRID), "mask.nii.gz")), PROTOCOL)
    assert patch.center_mm_lps == pytest.approx(CENTER, abs=0.1)
    assert patch.repaired == (note,)


@pytest.mark.parametrize(("mm", "code"), [(0.01, 1), (10, 0)])
def test_forms_that_agree_or_of_which_one_is_not_used_need_no_note(save, mm, code):
    path = edit_header(save(ramp(GRID), "ct.nii"), move_qform(mm, code=code))
    assert open_volume(path).repaired == ()
    assert open_volume(path).stored_grid.same_as(GRID, 0.02)


def test_a_mask_with_two_forms_is_noted(save):
    mask = edit_header(save(ball(GRID), "mask.nii.gz"), move_qform(10))
    patch = cut_patch_from(save(ramp(GRID), "ct.nrrd"), NoduleTarget(mask), PROTOCOL)
    assert len(patch.repaired) == 1
    assert patch.repaired[0].startswith("the mask: its sform was read; qform and sform are up to 10.00 mm apart")


@pytest.mark.parametrize("align_masks", [False, True])
@pytest.mark.parametrize("two_forms", ["ct.nii", "mask.nii"])
def test_a_mask_beside_the_voxels_of_two_forms_is_never_aligned(save, two_forms, align_masks):
    shifted = Grid(GRID.size_xyz, (0.5, 0.5, 1.7), GRID.origin_mm_lps, GRID.direction)
    save(ball(shifted, tuple(shifted.point_of((25, 23, 15)))), "mask.nii")
    path = save(ramp(GRID), "ct.nii")
    edit_header(path.parent / two_forms, move_qform(10))
    with pytest.raises(MaskError, match="not on its CT") as caught:
        options = CutOptions(RepairPolicy(align_masks=align_masks))
        cut_patch_from(path, NoduleTarget(path.parent / "mask.nii"), PROTOCOL, options)
    assert "qform and sform are up to 10.00 mm apart" in caught.value.found
    assert caught.value.arguments == ()
