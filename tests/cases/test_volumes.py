import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.volumes import naming_case, open_volume
from ggn_tf.errors import VolumeError
from tests.support.case_phantoms import noise, ramp
from tests.support.whole_volumes import read_grid, read_region, read_volume

FORMATS = ["ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha", "ct.mhd"]
BOX = Box((5, 7, 3), (9, 8, 4))


@pytest.mark.parametrize("name", FORMATS)
def test_a_region_is_that_part_of_the_volume(grid, save, name):
    image = noise(grid)
    region = read_region(save(image, name), BOX)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(region), sitk.GetArrayFromImage(image)[BOX.slices_zyx].astype(np.float32)
    )
    assert Grid.from_image(region).same_as(grid.part(BOX), tolerance_mm=1e-4)


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_volume(grid, save, name):
    image = noise(grid)
    whole = read_volume(save(image, name))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(whole), sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("name", ["ct.mha", "ct.nrrd"])
def test_a_fourth_axis_of_one_moment_is_left_out(grid, save, name):
    image = noise(grid)
    path = save(sitk.JoinSeries([image]), name)
    assert read_grid(path).same_as(grid, tolerance_mm=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_volume(path)), sitk.GetArrayFromImage(image))
    turned = np.eye(4)
    turned[2:, 2:] = [[0, 1], [1, 0]]
    for other in (sitk.JoinSeries([image, image]), sitk.JoinSeries([image])):
        other.SetDirection(turned.ravel().tolist() if other.GetSize()[3] == 1 else other.GetDirection())
        with pytest.raises(VolumeError, match="not a 3D volume"):
            read_volume(save(other, f"other-{name}"))


def test_the_scale_of_a_nifti_is_applied(grid, save):
    path = save(noise(grid), "ct.nii")
    header = bytearray(path.read_bytes())
    header[112:120] = np.array([2.0, -1024.0], dtype="<f4").tobytes()
    path.write_bytes(header)
    expected = np.maximum(2.0 * sitk.GetArrayFromImage(noise(grid)) - 1024.0, -1024.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_volume(path)), expected)


def test_the_grid_is_read_from_the_header_alone(grid, save):
    path = save(noise(grid), "ct.nii")
    path.write_bytes(path.read_bytes()[:352])
    assert read_grid(path).same_as(grid)


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("ct.nii", False),
        ("ct.nii.gz", True),
        ("ct.nrrd", False),
        ("ct.nrrd", True),
        ("ct.mha", False),
        ("ct.mha", True),
    ],
)
@pytest.mark.parametrize("box", [None, Box((5, 7, 20), (9, 8, 10))], ids=["whole", "part"])
def test_a_truncated_file_is_refused(grid, tmp_path, name, compress, box):
    path = tmp_path / name
    sitk.WriteImage(noise(grid), str(path), compress)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    with pytest.raises(VolumeError, match="voxels cannot be read") as caught:
        open_volume(path).read(box)
    assert caught.value.case == str(path)
    assert "incomplete" in caught.value.remedy


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_refused(grid, save, value):
    image = ramp(grid)
    image[8, 9, 4] = float(value)
    path = save(image, "ct.nii")
    with pytest.raises(VolumeError, match="NaN or infinite") as caught:
        read_region(path, BOX)
    assert caught.value.found == "1 of 288 voxels around the nodule"


def test_what_is_no_number_elsewhere_does_not_matter(grid, save):
    image = ramp(grid)
    image[40, 40, 25] = float("nan")
    assert read_region(save(image, "ct.nii"), BOX).GetSize() == BOX.size_xyz


@pytest.mark.parametrize("name", ["ct.mha", "ct.mhd", "ct.nrrd", "ct.nhdr"])
def test_a_name_in_capitals(grid, save, name):
    path = save(noise(grid), name)
    capitals = path.rename(path.with_name(name.upper()))
    assert read_grid(capitals).same_as(grid)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_volume(capitals)), sitk.GetArrayFromImage(noise(grid)))


def refused(path, match):
    with pytest.raises(VolumeError, match=match) as caught:
        open_volume(path)
    return caught.value


def test_a_missing_file(tmp_path):
    with pytest.raises(VolumeError, match="The CT does not exist") as caught:
        open_volume(tmp_path / "ct.nii.gz")
    assert caught.value.case == str(tmp_path / "ct.nii.gz")


@pytest.mark.parametrize(("stored", "requested"), [("CT.NII", "ct.nii"), ("Mu\u0308ller.nii", "M\u00fcller.nii")])
def test_a_missing_file_whose_name_is_there_in_another_spelling(tmp_path, stored, requested):
    (tmp_path / stored).write_bytes(b"")
    error = refused(tmp_path / requested, "does not exist")
    assert "name differs in upper and lower case" in error.found and stored not in error.found


def test_a_path_of_windows(tmp_path):
    assert "backslash" in refused(tmp_path / "a\\ct.nii", "does not exist").found


def test_a_text_file(tmp_path):
    path = tmp_path / "ct.nii"
    path.write_text("not an image", encoding="utf-8")
    with pytest.raises(VolumeError, match="not an image"):
        open_volume(path)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (sitk.Image(20, 20, sitk.sitkInt16), "20 x 20 voxels of 1 values"),
        (sitk.Image(20, 20, 1, sitk.sitkInt16), "20 x 20 x 1 voxels of 1 values"),
        (sitk.Image([8, 8, 8, 3], sitk.sitkInt16), "8 x 8 x 8 x 3 voxels of 1 values"),
        (sitk.Image([8, 8, 8], sitk.sitkVectorFloat32, 3), "8 x 8 x 8 voxels of 3 values"),
    ],
    ids=["2d", "one slice", "4d", "vectors"],
)
def test_what_is_no_3d_volume(save, image, found):
    with pytest.raises(VolumeError, match="not a 3D volume") as caught:
        open_volume(save(image, "ct.mha"))
    assert caught.value.found == found


def test_a_sheared_nifti_is_refused(grid, save):
    path = save(noise(grid), "ct.nii")
    header = bytearray(path.read_bytes())
    # srow_y's z entry: what dcm2niix leaves of a gantry tilt.
    header[304:308] = np.array([0.4], dtype="<f4").tobytes()
    path.write_bytes(header)
    with pytest.raises(VolumeError, match="not at right angles") as caught:
        open_volume(path)
    assert caught.value.found.startswith("a shear of ")


def test_a_sheared_metaimage_is_refused(save):
    image = sitk.Image(20, 20, 20, sitk.sitkInt16)
    image.SetDirection((1, 0.1, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(VolumeError, match="not at right angles"):
        open_volume(save(image, "ct.mha"))


def test_the_case_is_named_before_the_file():
    with pytest.raises(VolumeError) as caught, naming_case("nodule 7"):
        raise VolumeError("Wrong.", case="ct.nii")
    assert caught.value.case == "nodule 7 (ct.nii)"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_a_nifti_of_any_type_is_read_as_itk_reads_it(grid, save, order, kind):
    values = np.arange(np.prod(grid.size_xyz)).reshape(grid.size_xyz[::-1]) % 120
    path = save(grid.image_of(values.astype(kind)), "ct.nii")
    if order == ">":
        path.write_bytes(big_endian(path.read_bytes(), kind))
    region = sitk.GetArrayFromImage(read_region(path, BOX))
    np.testing.assert_array_equal(region, values[BOX.slices_zyx])
    np.testing.assert_array_equal(region, sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[BOX.slices_zyx])


def big_endian(content, kind):
    """The same NIfTI-1 file with every number's bytes the other way round (fields as in nifti1.h)."""
    fields = [("i4", 0, 1), ("i4", 32, 1), ("i2", 36, 1), ("i2", 40, 8), ("f4", 56, 3), ("i2", 68, 4), ("f4", 76, 11)]
    fields += [("i2", 120, 1), ("f4", 124, 4), ("i4", 140, 2), ("i2", 252, 2), ("f4", 256, 18)]
    header = bytearray(content[:352])
    for field, start, count in fields:
        end = start + count * np.dtype(field).itemsize
        header[start:end] = np.frombuffer(header[start:end], dtype=field).byteswap().tobytes()
    return bytes(header) + np.frombuffer(content[352:], dtype=kind).byteswap().tobytes()


def test_a_header_that_announces_more_than_the_file_can_hold_is_refused_before_memory_is_taken(grid, save):
    path = save(noise(grid), "ct.mha")
    content = path.read_bytes()
    size = " ".join(map(str, grid.size_xyz)).encode()
    path.write_bytes(content.replace(b"DimSize = " + size, b"DimSize = 1500 1500 1500"))
    with pytest.raises(VolumeError, match="3375000000 voxel values announced"):
        read_volume(path)


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.mha"])
def test_a_file_of_more_layers_than_a_ct_has_is_refused_before_it_is_read(tmp_path, name):
    voxels = np.zeros((2, 2, 2**16), np.uint8)
    if name == "ct.mha":
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / name))
    else:
        nibabel.Nifti2Image(voxels, np.eye(4)).to_filename(tmp_path / name)
    with pytest.raises(VolumeError) as caught:
        read_volume(tmp_path / name)
    assert caught.value.expected == "three axes of 2 to 32768 voxels, one value per voxel"
