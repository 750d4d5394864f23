import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import ggn_tf
from ggn_tf.api.load import Model
from ggn_tf.cases.growth import Change, Compared
from ggn_tf.cases.registration import Registration
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import FollowUpError, GgnError, MaskError, VolumeError
from ggn_tf.prediction.follow_up import refuse_failed
from ggn_tf.prediction.follow_up_page import change_texts
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.contract.messages import Prediction
from tests.support.chest import CENTER, write_dicom, write_nifti
from tests.support.follow_scans import lung, motion, write_mask

POINT = ggn_tf.Point(*CENTER)
MOVED = motion()
THRESHOLD_HU = -675.0
GROWN_MM = 6.8
GROWTH_PERCENT = 100 * ((GROWN_MM / 6) ** 3 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nodule with 6 mm of radius, moved with GROWN_MM, and masks of both."""
    folder = tmp_path_factory.mktemp("follow")
    write_nifti(lung(), folder / "earlier.nii")
    write_nifti(lung(GROWN_MM, MOVED), folder / "later.nii")
    write_nifti(lung(seed=5), folder / "other.nii")
    write_mask(folder / "earlier_mask.nii")
    write_mask(folder / "later_mask.nii", GROWN_MM, MOVED.TransformPoint(CENTER))
    return folder


class ThresholdNetwork:
    """Segments what is denser than THRESHOLD_HU, and was trained with shifts."""

    contract = SimpleNamespace(protocol=SimpleNamespace(training=SimpleNamespace(largest_shift_mm=8.0)))

    def predict(self, hu: np.ndarray) -> Prediction:
        probabilities = np.tile(np.float32([0.25, 0.75]), (len(hu), 1))
        return Prediction(probabilities, (hu > THRESHOLD_HU).astype(np.float32), ("AIS", "IAC"), 1)


class RestlessNetwork(ThresholdNetwork):
    """Segments only one half of the patch: its centre moves again and again."""

    def predict(self, hu: np.ndarray) -> Prediction:
        prediction = super().predict(hu)
        prediction.mask[:, :, :, :16] = 0
        return prediction


MODEL = Model(ThresholdNetwork(), PatchProtocol(), {"export": "threshold"})  # type: ignore[arg-type]


def masked(folder: Path, earlier: str = "earlier", later: str = "later", **options) -> ggn_tf.FollowUp:
    masks = {f"{scan}_mask": folder / f"{name}_mask.nii" for scan, name in (("earlier", earlier), ("later", later))}
    return ggn_tf.follow(folder / f"{earlier}.nii", folder / f"{later}.nii", POINT, **{**masks, **options})


def codes(warnings) -> set[str]:
    return {warning.code for warning in warnings}


def test_a_scan_against_itself_does_not_change(folder: Path):
    scan = folder / "earlier.nii"
    beside = ggn_tf.Point(CENTER[0] + 3, CENTER[1] - 2, CENTER[2] + 1)
    follow_up = ggn_tf.follow(scan, scan, beside, model=MODEL, days=100)
    assert follow_up.earlier.center_mm_lps == follow_up.later.center_mm_lps
    assert math.dist(follow_up.earlier.center_mm_lps, CENTER) < 0.4
    for change in follow_up.changes:
        assert (change.absolute, change.relative_percent, change.doubling_days) == (0, 0, None)
        assert change.compared is Compared.WITHIN
    assert codes(follow_up.warnings) == {"patient_unknown", "acquisition_unknown", "same_scan"}


@pytest.mark.parametrize("later_center", [None, POINT])
def test_a_scan_against_itself_does_not_change_where_the_centre_does_not_come_to_rest(
    folder: Path, later_center: ggn_tf.Point | None
):
    model = Model(RestlessNetwork(), PatchProtocol(), {"export": "restless"})  # type: ignore[arg-type]
    scan = folder / "earlier.nii"
    follow_up = ggn_tf.follow(scan, scan, POINT, model=model, later_center=later_center)
    assert [change.absolute for change in follow_up.changes] == [0] * 7
    assert follow_up.earlier.center_mm_lps == follow_up.later.center_mm_lps
    assert follow_up.earlier.start_mm_lps == CENTER
    assert (follow_up.later.start_mm_lps == CENTER) == (later_center is not None)


def test_growth_is_measured_where_the_registration_finds_the_nodule(folder: Path, tmp_path: Path):
    follow_up = ggn_tf.follow(folder / "earlier.nii", folder / "later.nii", POINT, model=MODEL, days=365)
    place = MOVED.TransformPoint(CENTER)
    assert math.dist(follow_up.later.start_mm_lps, place) < 0.3
    assert math.dist(follow_up.later.center_mm_lps, place) < 0.4
    volume, mass, *diameters = follow_up.changes
    assert volume.relative_percent == pytest.approx(GROWTH_PERCENT, abs=8)
    assert volume.compared is Compared.MORE and mass.compared is Compared.MORE
    assert volume.doubling_days == pytest.approx(365 * math.log(2) / math.log(1 + GROWTH_PERCENT / 100), rel=0.15)
    assert diameters[-1].compared is Compared.WITHIN
    result = follow_up.write(tmp_path / "growth", keep_ids=True)
    assert result == json.loads((tmp_path / "growth" / "growth.json").read_text(encoding="utf-8"))
    assert result["schema_version"] == 1 and result["later"]["ct"] == str(folder / "later.nii")
    assert result["changes"][0]["compared"] == "more" and result["days_source"] == "given"
    assert {path.name for path in (tmp_path / "growth").iterdir()} == {"growth.json", *result["files"].values()}
    mask = sitk.ReadImage(str(tmp_path / "growth" / "later_mask.nii.gz"))
    assert np.count_nonzero(sitk.GetArrayViewFromImage(mask)) * np.prod(mask.GetSpacing()) == pytest.approx(
        volume.later
    )
    page = (tmp_path / "growth" / "growth.html").read_text(encoding="utf-8")
    assert "more than measurement error" in page and str(folder) not in page


def test_given_masks_replace_the_models(folder: Path):
    follow_up = masked(folder, volume_limit=60.0, diameter_limit=1.0)
    volume, *_, diameter = follow_up.changes
    assert volume.relative_percent == pytest.approx(GROWTH_PERCENT, abs=8)
    assert volume.compared is Compared.WITHIN and volume.doubling_days is None
    assert diameter.absolute == pytest.approx(1.6, abs=0.3) and diameter.compared is Compared.MORE
    assert (follow_up.earlier.mask_source, follow_up.earlier.probabilities) == ("given", None)
    assert codes(follow_up.warnings) == {"no_dates", "patient_unknown", "acquisition_unknown"}
    assert follow_up.to_dict()["earlier"]["ct"] is None


def test_one_mask_and_one_model_are_warned_about(folder: Path):
    scan = folder / "earlier.nii"
    mixed = ggn_tf.follow(scan, scan, POINT, model=MODEL, later_mask=folder / "earlier_mask.nii")
    assert "masks_of_two_sources" in codes(mixed.warnings)


def test_without_a_nodule_there_is_no_change(folder: Path, tmp_path: Path):
    gone = write_nifti(lung(0.1), tmp_path / "gone.nii")
    follow_up = ggn_tf.follow(folder / "earlier.nii", gone, POINT, model=MODEL)
    assert follow_up.changes == () and follow_up.later.measurements is None
    assert "no_change" in codes(follow_up.warnings) and "no_nodule" in codes(follow_up.later.warnings)
    result = follow_up.write(tmp_path / "growth")
    assert result["changes"] == [] and result["files"]["later_mask"] is None


def test_another_nodule_is_warned_about(folder: Path, tmp_path: Path):
    far = write_mask(tmp_path / "far.nii", 4.0, np.add(CENTER, (0, 0, 15)))
    follow_up = masked(folder, later="earlier", later_mask=far)
    assert "nodules_apart" in codes(follow_up.warnings)


def test_a_failed_registration_is_an_error_and_with_a_given_centre_a_warning(folder: Path, tmp_path: Path):
    masks = {"later": "other", "later_mask": folder / "earlier_mask.nii"}
    with pytest.raises(FollowUpError) as caught:
        masked(folder, **masks)
    assert caught.value.arguments == ("later_center_mm",)
    follow_up = masked(folder, **masks, later_center=POINT)
    assert "registration_failed" in codes(follow_up.warnings)
    assert follow_up.later.start_mm_lps == CENTER
    # Nothing depends on what the failed registration found.
    assert follow_up.registration.failed and follow_up.registration.rotation_degrees == 0
    assert follow_up.registration.carried(follow_up.earlier.center_mm_lps) == pytest.approx(CENTER)
    assert "nodules_apart" not in codes(follow_up.warnings)
    without_overlap = replace(follow_up.registration, rms_difference_hu=math.inf, overlap=0.0)
    result = replace(follow_up, registration=without_overlap).write(tmp_path / "growth")
    assert result["registration"]["rms_difference_hu"] is None
    page = (tmp_path / "growth" / "growth.html").read_text(encoding="utf-8")
    assert "the later scan was only shifted" in page and "inf HU" not in page


FAR = Registration((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0), CENTER, (900.0, 0.0, 0.0), 300.0, 0.2, 0.1)


def test_of_a_failed_registration_only_the_fit_is_used(folder: Path):
    later = open_volume(folder / "later.nii")
    place = MOVED.TransformPoint(CENTER)
    registration, warnings = refuse_failed(FAR, later, place)
    assert registration.carried(CENTER) == pytest.approx(place) and registration.rotation_degrees == 0
    assert (registration.correlation, registration.failed) == (0.2, True)
    assert codes(warnings) == {"registration_failed"} and "0.20" in warnings[0].text
    with pytest.raises(FollowUpError, match="outside the later scan"):
        refuse_failed(FAR, later, (900.0, 0.0, 0.0))


@pytest.mark.parametrize("found", [None, replace(FAR, rms_difference_hu=math.inf, overlap=0.0)])
def test_scans_that_do_not_overlap_have_no_difference(folder: Path, found: Registration | None):
    with pytest.raises(FollowUpError) as caught:
        refuse_failed(found, open_volume(folder / "later.nii"), None)
    assert caught.value.found == "blocks around the nodule that do not overlap"


def test_a_change_of_nothing_has_no_negative_sign():
    assert change_texts(Change("volume_mm3", 100.3, 100.0, 25.0))[2:4] == ("+0 mm³", "-0.3 %")


def test_headers_of_dicom_are_compared(folder: Path, tmp_path: Path):
    first, last = {"0008|0022": "20230110", "0018|1210": "B70f"}, {"0008|0022": "20240110", "0018|1210": "B30f"}
    earlier, later = write_dicom(lung(), tmp_path / "a", first), write_dicom(lung(), tmp_path / "b", last)
    masks = {f"{scan}_mask": folder / "earlier_mask.nii" for scan in ("earlier", "later")}
    follow_up = ggn_tf.follow(earlier, later, POINT, **masks)
    assert (follow_up.interval.days, follow_up.interval.source) == (365, "AcquisitionDate")
    assert codes(follow_up.warnings) == {"different_kernel", "same_scan"}
    with pytest.raises(FollowUpError):
        ggn_tf.follow(later, earlier, POINT, **masks)
    # Two series in one folder, of which none is named.
    with pytest.raises(VolumeError) as caught:
        ggn_tf.follow(earlier, tmp_path, POINT, **masks)
    assert caught.value.case.startswith("the later scan")


@pytest.mark.parametrize("options", [{"days": 0}, {"volume_limit": math.nan}, {"diameter_limit": -1.0}])
def test_arguments_without_a_meaning(folder: Path, options: dict):
    with pytest.raises(GgnError) as caught:
        masked(folder, **options)
    assert caught.value.arguments == tuple(options)


def test_bad_input(folder: Path, tmp_path: Path):
    with pytest.raises(GgnError):
        ggn_tf.follow(folder / "earlier.nii", folder / "later.nii", POINT, earlier_mask=folder / "earlier_mask.nii")
    with pytest.raises(GgnError):
        ggn_tf.follow(folder / "earlier.nii", folder / "later.nii", ggn_tf.Point(math.nan, 0, 0), model=None)
    with pytest.raises(VolumeError, match="the later scan"):
        masked(folder, later="missing", later_mask=folder / "later_mask.nii")
    with pytest.raises(MaskError, match="the earlier scan"):
        masked(folder, earlier_mask=tmp_path / "missing.nii")
    follow_up = masked(folder, later="earlier")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(GgnError):
        follow_up.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
