import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset

from ggn_tf.cases.dicom.series import SeriesQuery
from ggn_tf.cases.dicom.series_writer import uid
from ggn_tf.cases.geometry.grid import Box, Grid
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import VolumeError
from ggn_tf.protocol import PatchProtocol
from tests.support.case_phantoms import ball, noise, ramp, rotation
from tests.support.dicom_files import edit, write_enhanced, write_report
from tests.support.whole_volumes import read_grid

PROTOCOL = PatchProtocol()
AXIAL = rotation(0, 0, 0)
THIN = Grid((30, 28, 24), (0.8, 0.8, 1.25), (0.0, -42.0, 26.0), AXIAL)
THICK = Grid((30, 28, 8), (0.8, 0.8, 5.0), (0.0, -42.0, 26.0), AXIAL)
ELSEWHERE = Grid((30, 28, 24), (0.8, 0.8, 1.25), (0.0, -42.0, 226.0), AXIAL)


@pytest.fixture
def study(save_series):
    """A folder with one series a sub-folder; gives the folder and the UIDs."""

    def write(**grids):
        for name, grid in grids.items():
            save_series(ramp(grid), f"study/{name}", {"0008|103e": name, "0020|000e": uid(name)})
        return folder_of(save_series)

    return write


@pytest.fixture
def save_series(save_series, tmp_path):
    (tmp_path / "study").mkdir()
    return save_series


def folder_of(save_series):
    return save_series(ramp(THIN), "unused").parent / "study"


def refused(folder, match, wanted=None):
    with pytest.raises(VolumeError, match=match) as caught:
        open_volume(folder, wanted or SeriesQuery())
    return caught.value


def test_files_in_sub_folders_and_without_extension(save_series, tmp_path):
    folder = save_series(noise(THIN))
    for number, path in enumerate(sorted(folder.iterdir())):
        place = folder / f"S{number % 3}"
        place.mkdir(exist_ok=True)
        path.rename(place / f"I{number:05d}")
    assert read_grid(folder).same_as(THIN, 1e-3)


def test_a_dicomdir_is_read_as_its_folder(save_series):
    folder = save_series(noise(THIN))
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert read_grid(folder / "DICOMDIR").same_as(THIN, 1e-3)


def test_a_link_to_the_folder_itself_is_not_followed(save_series):
    folder = save_series(noise(THIN))
    (folder / "again").symlink_to(folder)
    assert read_grid(folder).size_xyz == THIN.size_xyz


def test_the_series_is_chosen_by_its_uid(study):
    folder = study(thin=THIN, thick=THICK)
    assert open_volume(folder, SeriesQuery(series=uid("thick"))).grid.same_as(THICK, 1e-3)
    assert open_volume(folder, SeriesQuery(series=uid("thin"))).grid.same_as(THIN, 1e-3)


def test_an_unknown_uid(study):
    error = refused(study(thin=THIN, thick=THICK), "not contain the requested CT series", SeriesQuery(series="1.2.3"))
    assert error.expected == "series 1.2.3"
    assert uid("thin") in error.found
    assert uid("thick") in error.found


def test_several_series_are_listed_with_what_distinguishes_them(study):
    error = refused(study(thin=THIN, thick=THICK), "contains 2 CT series")
    assert f"24 slices of {uid('thin')} (thin), 0.8 x 0.8 x 1.25 mm" in error.found
    assert f"8 slices of {uid('thick')} (thick), 0.8 x 0.8 x 5 mm" in error.found
    assert "column series" in error.remedy


def test_the_only_series_that_is_a_volume(study):
    folder = study(thin=THIN, thick=THICK)
    (folder / "thick" / "0003.dcm").unlink()
    assert read_grid(folder).same_as(THIN, 1e-3)


def test_no_series_is_a_volume(study):
    folder = study(thin=THIN, thick=THICK)
    (folder / "thick" / "0003.dcm").unlink()
    (folder / "thin" / "0003.dcm").unlink()
    error = refused(folder, "None of the folder's 2 CT series is a volume")
    assert error.found.count("1 missing slice in 1 gap") == 2


def test_a_series_of_one_slice_is_no_candidate(study):
    folder = study(thin=THIN, thick=THICK)
    for path in sorted((folder / "thick").iterdir())[1:]:
        path.unlink()
    assert read_grid(folder).same_as(THIN, 1e-3)


@pytest.mark.parametrize("order", ["LPS", "RAS", "PSR"])
def test_the_series_on_whose_grid_the_mask_lies(study, save, order):
    folder = study(thin=THIN, thick=THICK)
    for grid in (THIN, THICK):
        mask = save(sitk.DICOMOrient(ball(grid), order), "mask.nii.gz")
        assert cut_patch_from(folder, NoduleTarget(mask), PROTOCOL).ct_grid.same_as(grid, 1e-3)


def test_the_series_that_contains_the_centre(study):
    folder = study(here=THIN, there=ELSEWHERE)
    patch = cut_patch_from(folder, NoduleTarget(center_mm_lps=(12.0, -31.0, 240.0)), PROTOCOL)
    assert patch.ct_grid.same_as(ELSEWHERE, 1e-3)


def test_a_centre_in_both_series_leaves_the_choice_open(study):
    folder = study(thin=THIN, thick=THICK)
    with pytest.raises(VolumeError, match="2 CT series"):
        cut_patch_from(folder, NoduleTarget(center_mm_lps=(12.0, -31.0, 40.0)), PROTOCOL)


def test_a_series_for_a_patch(study):
    patch = cut_patch_from(
        study(thin=THIN, thick=THICK), NoduleTarget(center_mm_lps=(12.0, -31.0, 40.0)), PROTOCOL, series=uid("thick")
    )
    assert patch.ct_grid.same_as(THICK, 1e-3)


def test_a_dose_report_and_a_dose_sheet_are_left_aside(save_series):
    folder = save_series(noise(THIN))
    write_report(folder / "report", folder / "0001.dcm")
    sheet = save_series(noise(THIN), "sheet", {"0020|000e": uid("sheet")})
    edit(sheet, lambda _, dataset: [delattr(dataset, f"Image{name}Patient") for name in ("Position", "Orientation")])
    (sheet / "0001.dcm").rename(folder / "sheet.dcm")
    assert read_grid(folder).size_xyz == THIN.size_xyz


def test_a_damaged_slice_of_another_series_does_not_matter(study):
    folder = study(thin=THIN, thick=THICK)
    path = folder / "thick" / "0003.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    assert open_volume(folder, SeriesQuery(series=uid("thin"))).grid.same_as(THIN, 1e-3)
    assert refused(folder, "damaged or contains no image", SeriesQuery(series=uid("thick"))).case == str(path)


def test_images_of_no_place_are_no_series(save_series):
    folder = save_series(noise(THIN))
    edit(folder, lambda _, dataset: delattr(dataset, "ImagePositionPatient"))
    assert refused(folder, "no CT series").found == "24 of modality CT, without a position"


@pytest.mark.parametrize(
    ("agent", "told"),
    [(None, False), ("", False), ("NONE", False), ("No", False), ("Omnipaque 350", True), ("APPLIED", True)],
)
@pytest.mark.parametrize("multi_frame", [False, True])
def test_a_contrast_agent_is_read_from_the_headers(save_series, tmp_path, agent, told, multi_frame):
    folder = save_series(noise(THIN))
    if agent is not None:
        edit(folder, lambda _, dataset: setattr(dataset, "ContrastBolusAgent", agent))
    if multi_frame:
        write_enhanced(folder, tmp_path / "enhanced.dcm")
    assert open_volume(tmp_path / "enhanced.dcm" if multi_frame else folder).contrast_agent is told


def test_an_enhanced_ct_names_its_contrast_agent_by_a_code(save_series, tmp_path):
    write_enhanced(save_series(noise(THIN)), tmp_path / "enhanced.dcm")
    header = pydicom.dcmread(tmp_path / "enhanced.dcm")
    header.ContrastBolusAgentSequence = [_coded("Iohexol")]
    header.save_as(tmp_path / "enhanced.dcm")
    assert open_volume(tmp_path / "enhanced.dcm").contrast_agent


def _coded(meaning):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "109219007", "SCT", meaning
    return code


def test_the_mask_may_be_a_part_of_the_series(study, save):
    folder = study(thin=THIN, thick=THICK)
    box = Box((5, 5, 4), (20, 20, 14))
    mask = sitk.RegionOfInterest(ball(THIN), box.size_xyz, box.start_xyz)
    assert cut_patch_from(folder, NoduleTarget(save(mask, "mask.nii.gz")), PROTOCOL).ct_grid.same_as(THIN, 1e-3)
