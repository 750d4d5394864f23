from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.field_of_view import FIRST_SLICE, LAST_SLICE, SIDE, covered_voxels, field_of_view_of
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import Patch, cut_patch_from
from ggn_tf.protocol import PatchProtocol

SPACING = (0.7, 0.7, 1.0)


def patch_of(folder: Path, size_xyz: tuple[int, int, int], first_xyz: tuple[int, int, int], size: int = 5) -> Patch:
    """The patch of a cube of a nodule in a CT without air, both on the patch's own spacing."""
    mask = np.zeros(size_xyz[::-1], np.uint8)
    x, y, z = first_xyz
    mask[z : z + size, y : y + size, x : x + size] = 1
    for name, voxels in (("ct", np.full(mask.shape, -700, np.int16)), ("mask", mask)):
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(SPACING)
        sitk.WriteImage(image, str(folder / f"{name}.nii"))
    return cut_patch_from(folder / "ct.nii", NoduleTarget(folder / "mask.nii"), PatchProtocol())


def test_a_patch_within_a_large_ct_is_covered(tmp_path: Path) -> None:
    patch = patch_of(tmp_path, (48, 48, 48), (20, 20, 20))
    assert field_of_view_of(patch) == (32, 1.0, ())


@pytest.mark.parametrize(
    ("size_xyz", "first_xyz", "faces"),
    [
        ((48, 48, 9), (20, 20, 0), (FIRST_SLICE,)),
        ((48, 48, 9), (20, 20, 4), (LAST_SLICE,)),
        ((48, 48, 5), (20, 20, 0), (FIRST_SLICE, LAST_SLICE)),
        ((48, 48, 40), (0, 20, 20), (SIDE,)),
        ((48, 48, 40), (20, 43, 20), (SIDE,)),
        ((48, 48, 11), (20, 20, 3), ()),
    ],
)
def test_faces_layers_and_share(
    tmp_path: Path, size_xyz: tuple[int, int, int], first_xyz: tuple[int, int, int], faces: tuple[str, ...]
) -> None:
    patch = patch_of(tmp_path, size_xyz, first_xyz)
    view = field_of_view_of(patch)
    # Outside the CT a patch is air, to which this CT has nothing similar.
    inside = patch.hu > -1000
    assert np.array_equal(covered_voxels(patch), inside)
    assert view == (np.count_nonzero(inside.any(axis=(1, 2))), inside.mean(), faces)


def test_a_flipped_file_has_the_same_faces(tmp_path: Path) -> None:
    patch_of(tmp_path, (48, 48, 9), (20, 20, 0))
    for name in ("ct", "mask"):
        image = sitk.Flip(sitk.ReadImage(str(tmp_path / f"{name}.nii")), (False, False, True))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii"))
    flipped = cut_patch_from(tmp_path / "ct.nii", NoduleTarget(tmp_path / "mask.nii"), PatchProtocol())
    assert field_of_view_of(flipped).mask_faces == (FIRST_SLICE,)
