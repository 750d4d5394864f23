"""One CT gives one patch, in whatever order and direction its file stores the axes."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import Patch, cut_patch, cut_patch_from, paste_mask
from ggn_tf.cases.volumes import open_volume
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import ball, noise, rotation

PROTOCOL = PatchProtocol()
CENTER = (-94.418, 97.579, -182.536)
# As every orientation that a file can have: which way each stored axis runs.
CODES = [
    "".join(letters) for order in itertools.permutations(("RL", "AP", "IS")) for letters in itertools.product(*order)
]
STRAIGHT = Grid.around(CENTER, (40, 36, 30), (0.83, 0.83, 1.25), rotation(0, 0, 0))
OBLIQUE = Grid.around(CENTER, (40, 36, 30), (0.83, 0.83, 1.25), rotation(8, -11, 20))
POINT = (-93.1, 98.33, -181.7)


def write(folder: Path, suffix: str, grid: Grid, code: str) -> tuple[Path, Path]:
    paths = folder / f"ct-{code}{suffix}", folder / f"mask-{code}{suffix}"
    for path, image in zip(paths, (noise(grid), ball(grid, POINT, 6.0)), strict=True):
        sitk.WriteImage(sitk.DICOMOrient(image, code), str(path))
    return paths


def cut(ct: Path, mask: Path | None = None, point: tuple[float, float, float] | None = None) -> Patch:
    return cut_patch_from(ct, NoduleTarget(mask, None, point), PROTOCOL)


@pytest.mark.parametrize(
    ("suffix", "grid"),
    [(".nii.gz", OBLIQUE), (".nrrd", OBLIQUE), (".mha", OBLIQUE), (".nii.gz", STRAIGHT)],
    ids=["nii-oblique", "nrrd-oblique", "mha-oblique", "nii-straight"],
)
def test_all_48_orders_of_a_file_give_one_patch_to_the_bit(tmp_path: Path, suffix: str, grid: Grid) -> None:
    assert len(CODES) == 48
    whole = {code: write(tmp_path, suffix, grid, code) for code in CODES}
    by_mask, by_point = cut(*whole["LPS"]), cut(whole["LPS"][0], point=POINT)
    for code, (ct, mask) in whole.items():
        patch, pointed = cut(ct, mask), cut(ct, point=POINT)
        assert np.array_equal(patch.hu, by_mask.hu), code
        assert patch.mask is not None and np.array_equal(patch.mask, by_mask.mask), code
        assert np.array_equal(pointed.hu, by_point.hu), code
        assert np.allclose(patch.center_mm_lps, by_mask.center_mm_lps, atol=1e-3), code
        assert patch.measurements.longest_diameter_mm == pytest.approx(
            by_mask.measurements.longest_diameter_mm, abs=1e-4
        ), code
        mirrored = cut(ct, whole["RAI"][1])
        assert np.array_equal(mirrored.mask, by_mask.mask), code


def test_a_mask_is_written_on_the_same_voxels_of_the_patient_in_the_order_of_the_file(tmp_path: Path) -> None:
    soft = np.random.default_rng(1).random((32, 32, 32)).astype(np.float32)
    expected = None
    for code in CODES:
        ct, mask = write(tmp_path, ".nrrd", STRAIGHT, code)
        volume = open_volume(ct)
        patch = cut_patch(volume, NoduleTarget(mask), PROTOCOL)
        written = volume.stored_image(sitk.GetArrayFromImage(paste_mask(soft, patch.grid, volume.grid)))
        stored = sitk.ReadImage(str(ct))
        assert Grid.from_image(written) == Grid.from_image(stored), code
        straight = sitk.GetArrayFromImage(sitk.DICOMOrient(written, "LPS"))
        expected = straight if expected is None else expected
        assert np.array_equal(straight, expected), code


def test_dicom_stacks_in_either_direction_and_files_give_one_patch(
    tmp_path: Path, save_series: Callable[..., Path]
) -> None:
    ct, mask = write(tmp_path, ".nrrd", STRAIGHT, "LPS")
    expected = cut(ct, mask)
    for code in ("LPS", "RAS", "RPS", "LAS", "PSL", "LSA"):
        folder = save_series(sitk.DICOMOrient(noise(STRAIGHT), code), name=f"dicom-{code}")
        patch = cut(folder, mask)
        assert np.abs(patch.hu - expected.hu).max() <= 1e-3, code
        assert patch.mask is not None and np.array_equal(patch.mask, expected.mask), code
