"""NIfTI files as other programs write them: versions, pairs, compression, units, offsets and axes."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import VolumeError

VOXELS = np.random.default_rng(0).integers(-1000, 400, (6, 7, 8)).astype(np.int16)
AFFINE_RAS = np.array([[0.9, 0, 0, 10], [0, 0.8, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1]])


def plain(folder: Path, name: str = "ct.nii") -> Path:
    nibabel.save(nibabel.Nifti1Image(VOXELS, AFFINE_RAS), folder / name)
    return folder / name


def saved(image: object, folder: Path, name: str) -> Path:
    nibabel.save(image, folder / name)
    return folder / name


def renamed(folder: Path, source: str, name: str, compress: bool = False) -> Path:
    content = plain(folder, source).read_bytes()
    (folder / name).write_bytes(gzip.compress(content) if compress else content)
    return folder / name


def in_metres(folder: Path) -> Path:
    image = nibabel.Nifti1Image(VOXELS, np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE_RAS)
    image.header.set_xyzt_units("meter")
    return saved(image, folder, "metres.nii")


def capital_pair(folder: Path) -> Path:
    for path in (saved(nibabel.Nifti1Pair(VOXELS, AFFINE_RAS), folder, "pair.img"), folder / "pair.hdr"):
        path.rename(folder / path.name.upper())
    return folder / "PAIR.HDR"


KINDS: dict[str, Callable[[Path], Path]] = {
    "not compressed": lambda folder: renamed(folder, "ct.nii", "plain.nii.gz"),
    "compressed": lambda folder: renamed(folder, "ct.nii", "packed.nii", compress=True),
    "capitals": lambda folder: renamed(folder, "ct.nii", "CT.NII"),
    "version 2": lambda folder: saved(nibabel.Nifti2Image(VOXELS, AFFINE_RAS), folder, "two.nii.gz"),
    "pair by header": lambda folder: saved(nibabel.Nifti1Pair(VOXELS, AFFINE_RAS), folder, "a.img").with_suffix(".hdr"),
    "pair by voxels": lambda folder: saved(nibabel.Nifti2Pair(VOXELS, AFFINE_RAS), folder, "a.img"),
    "compressed pair": lambda folder: saved(nibabel.Nifti1Pair(VOXELS, AFFINE_RAS), folder, "a.img.gz"),
    "pair in capitals": capital_pair,
    "fourth axis of 1": lambda folder: saved(nibabel.Nifti1Image(VOXELS[..., None], AFFINE_RAS), folder, "4d.nii"),
    "metres": in_metres,
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_undamaged_file_is_read_whatever_its_kind(kind: str, tmp_path: Path) -> None:
    volume = open_volume(KINDS[kind](tmp_path))
    assert volume.stored_grid.spacing_mm_xyz == pytest.approx((0.9, 0.8, 2.0))
    assert volume.stored_grid.origin_mm_lps == pytest.approx((-10, -20, 30), abs=1e-5)
    assert np.allclose(volume.stored_grid.direction, (-1, 0, 0, 0, -1, 0, 0, 0, 1), atol=1e-6)
    voxels = sitk.GetArrayFromImage(volume.read())
    np.testing.assert_array_equal(volume.axes.to_stored(voxels), VOXELS.T)


def test_a_pair_of_the_size_of_a_ct_is_read_by_its_header(tmp_path: Path) -> None:
    path = saved(nibabel.Nifti1Pair(np.zeros((128, 128, 40), np.int16), AFFINE_RAS), tmp_path, "ct.img")
    assert open_volume(path.with_suffix(".hdr")).stored_grid.size_xyz == (128, 128, 40)


def test_a_header_without_its_voxels_is_refused(tmp_path: Path) -> None:
    path = saved(nibabel.Nifti1Pair(VOXELS, AFFINE_RAS), tmp_path, "ct.img")
    path.unlink()
    with pytest.raises(VolumeError, match=r"no file ct\.img"):
        open_volume(path.with_suffix(".hdr"))


@pytest.mark.parametrize("pixdim", [{0: 0.0}, {0: 3.0}, {1: -0.9}])
def test_a_header_without_handedness_or_with_a_negative_spacing_is_read(
    pixdim: dict[int, float], tmp_path: Path
) -> None:
    path = plain(tmp_path)
    content = bytearray(path.read_bytes())
    for number, value in pixdim.items():
        content[76 + 4 * number : 80 + 4 * number] = np.float32(value).tobytes()
    path.write_bytes(content)
    assert open_volume(path).stored_grid.spacing_mm_xyz == pytest.approx((0.9, 0.8, 2.0))


def changed(path: Path, offset: int, values: list[float], kind: str = "<f4") -> Path:
    content = bytearray(path.read_bytes())
    stored = np.array(values, kind).tobytes()
    content[offset : offset + len(stored)] = stored
    path.write_bytes(content)
    return path


def both_forms(folder: Path) -> Path:
    image = nibabel.Nifti1Image(VOXELS, AFFINE_RAS)
    image.set_qform(AFFINE_RAS, 1)
    image.set_sform(AFFINE_RAS, 1)
    return saved(image, folder, "ct.nii")


QFORM_CODE, SFORM_CODE, QUATERNION, SFORM, PIXDIM = 252, 254, 256, 280, 80


@pytest.mark.parametrize("sform_code", [0, 1])
def test_a_quaternion_that_was_rounded_is_a_rotation(sform_code: int, tmp_path: Path) -> None:
    turned = AFFINE_RAS @ np.diag([-1, -1, 1, 1])
    image = nibabel.Nifti1Image(VOXELS, turned)
    image.set_qform(turned, 1)
    image.set_sform(turned, sform_code)
    path = changed(saved(image, tmp_path, "ct.nii"), QUATERNION, [0, 0, 1.000002])
    volume = open_volume(path)
    assert np.allclose(volume.stored_grid.direction, np.eye(3).ravel(), atol=1e-5) and volume.forms is None


@pytest.mark.parametrize(("offset", "count"), [(QUATERNION, 3), (SFORM, 12)])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_of_two_forms_one_may_be_unusable(offset: int, count: int, value: float, tmp_path: Path) -> None:
    volume = open_volume(changed(both_forms(tmp_path), offset, [value] * count))
    assert volume.stored_grid.same_as(open_volume(both_forms(tmp_path)).stored_grid)
    assert volume.forms is None


def test_a_header_without_a_form_is_noted(tmp_path: Path) -> None:
    volume = open_volume(changed(changed(plain(tmp_path), QFORM_CODE, [0], "<i2"), SFORM_CODE, [0], "<i2"))
    assert volume.stored_grid.spacing_mm_xyz == pytest.approx((0.9, 0.8, 2.0))
    assert len(volume.repaired) == 1 and "directions of its axes and the position" in volume.repaired[0]


def test_a_header_without_a_spacing_is_refused(tmp_path: Path) -> None:
    path = changed(changed(both_forms(tmp_path), SFORM_CODE, [0], "<i2"), PIXDIM, [0, 0, 0])
    with pytest.raises(VolumeError, match="no usable positions") as caught:
        open_volume(path)
    assert caught.value.arguments == ()


def test_a_spacing_and_origin_that_programs_write_where_they_are_unknown_are_noted(tmp_path: Path) -> None:
    volume = open_volume(saved(nibabel.Nifti1Image(VOXELS, np.eye(4)), tmp_path, "eye.nii"))
    assert len(volume.repaired) == 1 and "1 x 1 x 1 mm and the origin 0" in volume.repaired[0]
    assert open_volume(plain(tmp_path)).repaired == ()


@pytest.mark.parametrize("offset", [0, 100, 348])
def test_voxels_that_begin_inside_the_header_are_refused(offset: int, tmp_path: Path) -> None:
    path = plain(tmp_path)
    content = bytearray(path.read_bytes())
    content[108:112] = np.float32(offset).tobytes()
    path.write_bytes(content)
    with pytest.raises(VolumeError) as caught:
        open_volume(path).read()
    assert caught.value.found == f"voxels that begin at byte {offset}, inside the header"


def test_an_analyze_file_is_refused_because_its_sides_are_unknown(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"Analyze 7\.5"):
        open_volume(saved(nibabel.AnalyzeImage(VOXELS, AFFINE_RAS), tmp_path, "old.img"))


@pytest.mark.parametrize(("shear", "read"), [(1e-4, True), (0.005, True), (0.02, False)])
def test_axes_may_be_sheared_within_the_tolerance(shear: float, read: bool, tmp_path: Path) -> None:
    affine = AFFINE_RAS.copy()
    affine[0, 1] = shear
    image = nibabel.Nifti1Image(VOXELS, affine)
    image.set_qform(None, 0)
    path = saved(image, tmp_path, "sheared.nii")
    if not read:
        with pytest.raises(VolumeError, match="not at right angles"):
            open_volume(path)
        return
    grid = open_volume(path).stored_grid
    axes = np.reshape(grid.direction, (3, 3))
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    corner = np.array([5, 6, 7])
    expected = (np.diag([-1, -1, 1, 1]) @ affine @ [*corner, 1])[:3]
    assert np.linalg.norm(grid.point_of(corner) - expected) < 0.05


@pytest.mark.parametrize(
    ("codes", "taken"), [((1, 1), "sform"), ((2, 1), "sform"), ((0, 1), "qform"), ((1, 0), "sform")]
)
def test_the_sform_decides_and_without_one_the_qform(codes: tuple[int, int], taken: str, tmp_path: Path) -> None:
    image, moved = nibabel.Nifti1Image(VOXELS, AFFINE_RAS), AFFINE_RAS.copy()
    moved[:3, 3] += 5
    image.set_sform(moved, codes[0])
    image.set_qform(AFFINE_RAS, codes[1])
    origin = open_volume(saved(image, tmp_path, "ct.nii")).stored_grid.origin_mm_lps
    assert origin == pytest.approx((-15, -25, 35) if codes[0] else (-10, -20, 30))
