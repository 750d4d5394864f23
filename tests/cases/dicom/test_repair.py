import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.repair import RepairPolicy
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import CutOptions, cut_patch_from
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import VolumeError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import CENTER, points_of, ramp_hu, rotation
from tests.support.dicom_files import edit

PROTOCOL = PatchProtocol()
REPAIR = RepairPolicy(repair=True)
AXES = rotation(14, 0, 0)
EVEN = Grid.around((12.0, -31.0, 40.0), (60, 60, 40), (0.8, 0.8, 1.25), AXES)


def positions(kind):
    """First pixels of the slices: 14 degrees of tilt, uneven distances, or both."""
    count = EVEN.size_xyz[2]
    steps = np.full(count - 1, 1.25) if kind == "tilt" else np.where(np.arange(count - 1) % 3 == 0, 1.0, 1.375)
    heights = np.concatenate([[0], np.cumsum(steps)])
    sideways = heights * np.tan(np.radians(0 if kind == "uneven" else 14))
    sideways -= sideways.mean()
    axes = np.reshape(AXES, (3, 3))
    return EVEN.origin_mm_lps + np.outer(heights, axes[:, 2]) + np.outer(sideways, axes[:, 1])


@pytest.fixture(params=["tilt", "uneven", "both"])
def series(request, save_series):
    """A plane in world coordinates as a scanner with slices in odd places sees it, and the mask of a ball on them."""
    places = positions(request.param)
    own = [Grid((60, 60, 1), EVEN.spacing_mm_xyz, tuple(place.tolist()), AXES) for place in places]
    values = np.concatenate([ramp_hu(points_of(grid)) for grid in own])
    inside = np.concatenate([np.linalg.norm(points_of(grid) - CENTER, axis=-1) <= 8 for grid in own])
    # Eighths of a Hounsfield unit: rounding to whole ones would hide half a voxel's error.
    folder = save_series(EVEN.image_of(np.zeros_like(values, dtype=np.int16)))

    def place(number, dataset):
        dataset.ImagePositionPatient = [f"{value:.9f}" for value in places[number]]
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.125, 0
        dataset.PixelData = np.rint(values[number] * 8).astype("<i2").tobytes()

    edit(folder, place)
    naive = Grid(
        EVEN.size_xyz,
        (0.8, 0.8, float((places[-1] - places[0]) @ np.reshape(AXES, (3, 3))[:, 2]) / 39),
        tuple(places[0].tolist()),
        AXES,
    )
    return folder, naive.image_of(inside.astype(np.uint8))


def test_slices_in_odd_places_are_refused_and_the_remedy_is_named(series):
    with pytest.raises(VolumeError, match="do not make a volume") as caught:
        open_volume(series[0])
    assert caught.value.arguments == ("repair",)


def test_a_repaired_patch_has_the_values_of_the_patients_places(series):
    patch = cut_patch_from(series[0], NoduleTarget(center_mm_lps=CENTER), PROTOCOL, CutOptions(REPAIR))
    np.testing.assert_allclose(patch.hu, ramp_hu(points_of(patch.grid)), atol=0.2, rtol=0)
    assert len(patch.repaired) in (1, 2)
    assert "tilt" in patch.repaired[-1] or "off its place" in patch.repaired[0]


def test_a_mask_drawn_on_the_slices_moves_with_them(series, save):
    patch = cut_patch_from(series[0], NoduleTarget(save(series[1], "mask.nrrd")), PROTOCOL, CutOptions(REPAIR))
    assert patch.center_mm_lps == pytest.approx(CENTER, abs=0.25)
    assert patch.measurements.volume_mm3 == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.03)
    assert patch.repaired[-1] == "the mask: shifted with the slices it was drawn on"


def test_a_mask_on_the_repaired_grid_stays(series, save):
    grid = open_volume(series[0], repair=True).grid
    inside = np.linalg.norm(points_of(grid) - CENTER, axis=-1) <= 8
    mask = save(grid.image_of(inside.astype(np.uint8)), "mask.nrrd")
    patch = cut_patch_from(series[0], NoduleTarget(mask), PROTOCOL, CutOptions(REPAIR))
    assert patch.center_mm_lps == pytest.approx(CENTER, abs=0.05)


def test_missing_slices_cannot_be_repaired(save_series):
    folder = save_series(EVEN.image_of(np.zeros(EVEN.size_xyz[::-1], dtype=np.int16)))
    (folder / "0007.dcm").unlink()
    with pytest.raises(VolumeError) as caught:
        open_volume(folder, repair=True)
    assert "1 missing slice in" in caught.value.found
    assert caught.value.arguments == ()


def test_positions_in_whole_millimetres_are_no_missing_slices(save_series):
    grid = Grid((60, 60, 40), (0.8, 0.8, 1.25), (-20.0, -40.0, 10.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    values = ramp_hu(points_of(grid))
    folder = save_series(grid.image_of(np.rint(values).astype(np.int16)))

    def whole(_, dataset):
        dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], round(dataset.ImagePositionPatient[2])]

    edit(folder, whole)
    with pytest.raises(VolumeError) as caught:
        open_volume(folder)
    assert "positions rounded to whole millimetres: distances from 1 to 2 mm" in caught.value.found
    assert caught.value.arguments == ("repair",)
    volume = open_volume(folder, repair=True)
    center = grid.point_of((30, 30, 20)).tolist()
    hu = cut_patch_from(folder, NoduleTarget(center_mm_lps=tuple(center)), PROTOCOL, CutOptions(REPAIR)).hu
    assert volume.grid.spacing_mm_xyz == (0.8, 0.8, 1.0)
    # Half a millimetre of rounding, and half a Hounsfield unit.
    slope = np.abs(np.diff(values, axis=0)).max() / 1.25
    assert np.abs(hu[15:17, 15:17, 15:17].mean() - ramp_hu(np.array(center))) <= 0.51 * slope + 2


def test_a_sound_series_is_not_touched(save_series):
    image = EVEN.image_of(np.random.default_rng(0).integers(-1000, 300, EVEN.size_xyz[::-1]).astype(np.int16))
    volume = open_volume(save_series(image), repair=True)
    assert volume.repaired == ()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume.read()), sitk.GetArrayFromImage(image))
