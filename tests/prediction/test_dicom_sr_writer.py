"""Reports of predictions, read by highdicom, pydicom and dcmqi, and checked by dciodvfy."""

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom import sr
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRBigEndian

from ggn_tf import __version__
from ggn_tf.cases.volumes import open_volume
from ggn_tf.errors import VolumeError
from ggn_tf.prediction.class_codes import ClassCode
from ggn_tf.prediction.dicom_headers import identify
from ggn_tf.prediction.dicom_seg_writer import write_segmentation
from ggn_tf.prediction.dicom_sr_writer import write_planar_report, write_volumetric_report
from ggn_tf.prediction.nodules import RESEARCH_ONLY, CtPrediction
from ggn_tf.prediction.patch_warnings import PredictionWarning
from tests.support.chest import CENTER, TURNED, lung_grid, lung_with_balls, tilt, write_dicom
from tests.support.dicom_files import compress, edit, write_enhanced
from tests.support.dicom_predictions import COARSE, predicted

SECOND = (5.0, -17.0, 81.0)
EMPTY = (15.0, -25.0, 115.0)
PREDICTED_CLASS = sr.CodedConcept("CLASS", "99GGNTF", "Predicted class")
MIA = {"MIA": ClassCode("8256/3", "ICDO3", "Minimally invasive adenocarcinoma")}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = lung_with_balls(lung_grid(direction=TURNED), [(CENTER, 6.0), (SECOND, 4.0)])
    return write_dicom(image, tmp_path_factory.mktemp("ct") / "dicom")


@pytest.fixture(scope="module")
def prediction(series: Path) -> CtPrediction:
    return predicted(open_volume(series), (CENTER, 6.0), (SECOND, 4.0), (EMPTY, 0.0))


@pytest.fixture(scope="module")
def objects(prediction: CtPrediction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(prediction, tmp_path_factory.mktemp("objects"))


@pytest.fixture(scope="module")
def written(objects: Path) -> dict[str, pydicom.Dataset]:
    return read(objects)


@pytest.fixture(scope="module")
def groups(written: dict[str, pydicom.Dataset]) -> dict[str, list]:
    return {kind: groups_of(written[kind]) for kind in ("planar", "volumetric")}


def write(prediction: CtPrediction, folder: Path, class_codes: dict[str, ClassCode] = MIA) -> Path:
    identity = identify(prediction, class_codes)
    write_segmentation(prediction.volume, prediction.labels, identity, folder / "seg.dcm")
    write_planar_report(prediction, class_codes, identity, folder / "planar.dcm")
    write_volumetric_report(prediction, class_codes, identity, folder / "volumetric.dcm", folder / "seg.dcm")
    return folder


def planar(prediction: CtPrediction, path: Path, class_codes: dict[str, ClassCode] = MIA) -> pydicom.Dataset:
    write_planar_report(prediction, class_codes, identify(prediction, class_codes), path)
    return pydicom.dcmread(path)


def read(folder: Path) -> dict[str, pydicom.Dataset]:
    return {path.stem: pydicom.dcmread(path) for path in folder.glob("*.dcm")}


def groups_of(document: pydicom.Dataset) -> list[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    content = sr.Comprehensive3DSR.from_dataset(document).content
    return [*content.get_planar_roi_measurement_groups(), *content.get_volumetric_roi_measurement_groups()]


def comments_of(group: pydicom.Dataset) -> list[str]:
    items = group[0].ContentSequence
    return [item.TextValue for item in items if item.ConceptNameCodeSequence[0].CodeValue == "121106"]


def class_of(group: sr.PlanarROIMeasurementsAndQualitativeEvaluations) -> tuple[str, str]:
    (evaluation,) = group.get_qualitative_evaluations(PREDICTED_CLASS)
    return evaluation.value.value, evaluation.value.scheme_designator


def test_each_nodule_is_a_planar_group_with_its_outline(
    prediction: CtPrediction, written: dict[str, pydicom.Dataset], groups: dict[str, list]
) -> None:
    document = written["planar"]
    assert document.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert document.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    found = groups["planar"]
    assert [group[0].ContentTemplateSequence[0].TemplateIdentifier for group in found] == ["1410"] * 3
    assert [group.roi.GraphicType for group in found] == ["POLYLINE", "POLYLINE", "POINT"]
    headers = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, prediction.volume.slices)}
    for group, (center, radius_mm) in zip(found, ((CENTER, 6.0), (SECOND, 4.0), (EMPTY, 0.0)), strict=True):
        reference = group.roi.ContentSequence[0].ReferencedSOPSequence[0]
        header = headers[reference.ReferencedSOPInstanceUID]
        points = np.reshape(group.roi.GraphicData, (-1, 2)) - 0.5
        axes = np.reshape([float(value) for value in header.ImageOrientationPatient], (2, 3))
        at = points * 0.8 @ axes + [float(value) for value in header.ImagePositionPatient]
        assert np.abs(np.linalg.norm(at - center, axis=1) - radius_mm).max() < 1.7
        assert tuple(points[0]) == tuple(points[-1])


def test_measurements_are_the_results_with_units_and_codes(prediction: CtPrediction, groups: dict[str, list]) -> None:
    measured, nodule = prediction.nodules[0].measurements, prediction.nodules[0]
    expected = {
        ("103339001", "SCT", "mm"): measured.longest_diameter_mm,
        ("103340004", "SCT", "mm"): measured.perpendicular_diameter_mm,
        ("118565006", "SCT", "mm3"): measured.volume_mm3,
        ("112031", "DCM", "[hnsf'U]"): measured.mean_hu,
        ("SOLID", "99GGNTF", "%"): 100 * measured.solid_fraction,
        **{(f"P-{name}", "99GGNTF", "%"): 100 * value for name, value in nodule.probabilities.items()},
    }
    for kind in ("planar", "volumetric"):
        found = {
            (item.name.value, item.name.scheme_designator, item.unit.value): item.value
            for item in groups[kind][0].get_measurements()
        }
        assert found == pytest.approx(expected, rel=1e-12)
    density = groups["planar"][0].get_measurements(codes.DCM.AttenuationCoefficient)[0]
    assert density.derivation == codes.SCT.Mean


def test_the_class_has_the_code_of_the_table(groups: dict[str, list]) -> None:
    assert class_of(groups["planar"][0]) == class_of(groups["volumetric"][0]) == ("8256/3", "ICDO3")
    # No nodule was found there.
    assert groups["planar"][2].get_qualitative_evaluations(PREDICTED_CLASS) == []


def test_a_class_without_a_code_is_in_the_declared_private_scheme(prediction: CtPrediction, tmp_path: Path) -> None:
    other = {"IAC": ClassCode("INVASIVE", "99HOSPITAL", "Invasive")}
    document = planar(prediction, tmp_path / "sr.dcm", other)
    assert class_of(groups_of(document)[0]) == ("C-MIA", "99GGNTF")
    declared = [item.CodingSchemeDesignator for item in document.CodingSchemeIdentificationSequence]
    assert declared == ["99GGNTF", "99HOSPITAL"]


def test_the_spread_of_an_ensemble_is_stated(prediction: CtPrediction, tmp_path: Path) -> None:
    spread = {"AAH+AIS": 0.02, "MIA": 0.03, "IAC": 0.01}
    first = dataclasses.replace(prediction.nodules[0], spread=spread)
    document = planar(dataclasses.replace(prediction, nodules=(first,)), tmp_path / "sr.dcm")
    found = [(item.name.meaning, item.value, item.derivation) for item in groups_of(document)[0].get_measurements()]
    # What viewers show first, and under a name of its own what must not be taken for it.
    assert [name for name, *_ in found[:3]] == [f"Probability of {name}" for name in spread]
    deviation = codes.SCT.StandardDeviation
    assert found[-3:] == [
        (f"Standard deviation of probability of {name}", pytest.approx(100 * value), deviation)
        for name, value in spread.items()
    ]
    if shutil.which("dciodvfy"):
        assert errors_in(tmp_path) == {"sr": []}


def test_prediction_set_and_typicality_are_stated_where_the_model_gives_them(
    prediction: CtPrediction, tmp_path: Path
) -> None:
    (first, second, _) = prediction.nodules
    first = dataclasses.replace(first, prediction_set=("MIA", "IAC"), typicality=0.25)
    second = dataclasses.replace(second, prediction_set=())
    document = planar(dataclasses.replace(prediction, nodules=(first, second)), tmp_path / "sr.dcm")
    both, alone = map(comments_of, groups_of(document))
    assert both[1:3] == [
        "Solid share: voxels above -300 HU.",
        "Prediction set: MIA, IAC. Typicality: 0.25, the share of held-out nodules that are no more typical.",
    ]
    assert alone[1:3] == ["Solid share: voxels above -300 HU.", "Prediction set: no class."]
    if shutil.which("dciodvfy"):
        assert errors_in(tmp_path) == {"sr": []}


def test_finding_site_and_tracking_are_those_of_the_seg(
    written: dict[str, pydicom.Dataset], groups: dict[str, list]
) -> None:
    segments = written["seg"].SegmentSequence
    for kind in ("planar", "volumetric"):
        for segment, group in zip(segments, groups[kind], strict=False):
            assert group.finding_category == sr.CodedConcept.from_dataset(
                segment.SegmentedPropertyCategoryCodeSequence[0]
            )
            assert group.finding_type == sr.CodedConcept.from_dataset(segment.SegmentedPropertyTypeCodeSequence[0])
            assert group.finding_sites[0].value == sr.CodedConcept.from_dataset(segment.AnatomicRegionSequence[0])
            assert (group.tracking_identifier, group.tracking_uid) == (segment.TrackingID, segment.TrackingUID)


def test_warnings_and_the_algorithm_are_stated(written: dict[str, pydicom.Dataset], groups: dict[str, list]) -> None:
    for number, group in enumerate(groups["planar"]):
        threshold = [] if number == 2 else ["Solid share: voxels above -300 HU."]
        assert comments_of(group) == [RESEARCH_ONLY, *threshold, COARSE.text]
        texts = {item.ConceptNameCodeSequence[0].CodeValue: item.get("TextValue") for item in group[0].ContentSequence}
        # DICOM PS3.16 TID 4019.
        assert (texts["111001"], texts["111003"]) == ("ggn_tf", __version__)
        assert texts["111002"] == "model version 7, SHA-256 d1"
    assert written["planar"].VerificationFlag == "UNVERIFIED"
    assert written["planar"].SeriesDescription.endswith("(research)")


def test_a_warning_about_all_nodules_is_in_every_group_without_control_characters(
    prediction: CtPrediction, tmp_path: Path
) -> None:
    changed = dataclasses.replace(prediction, warnings=(PredictionWarning("code", "about\x1ball"),))
    for group in groups_of(planar(changed, tmp_path / "sr.dcm")):
        assert comments_of(group)[-2:] == ["about\\u001ball", COARSE.text]


def test_volumetric_groups_refer_to_the_segments(written: dict[str, pydicom.Dataset], groups: dict[str, list]) -> None:
    assert [group[0].ContentTemplateSequence[0].TemplateIdentifier for group in groups["volumetric"]] == ["1411"] * 2
    for number, group in enumerate(groups["volumetric"], start=1):
        (item,) = (item for item in group[0].ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "121191")
        (reference,) = item.ReferencedSOPSequence
        assert (reference.ReferencedSOPInstanceUID, reference.ReferencedSegmentNumber) == (
            written["seg"].SOPInstanceUID,
            number,
        )
    assert written["volumetric"].SeriesInstanceUID != written["planar"].SeriesInstanceUID


def test_a_second_run_writes_the_same_uids(
    prediction: CtPrediction, written: dict[str, pydicom.Dataset], tmp_path: Path
) -> None:
    again, first = planar(prediction, tmp_path / "sr.dcm"), written["planar"]
    assert (again.SOPInstanceUID, again.SeriesInstanceUID) == (first.SOPInstanceUID, first.SeriesInstanceUID)
    assert len({document.SOPInstanceUID for document in written.values()}) == 3


def test_a_nodule_that_shares_its_voxels_has_its_own_outline(series: Path, tmp_path: Path) -> None:
    twice = predicted(open_volume(series), (CENTER, 6.0), (CENTER, 4.0))
    first, second = (group.roi for group in groups_of(planar(twice, tmp_path / "sr.dcm")))
    assert second.GraphicType == "POLYLINE"
    assert np.ptp(second.GraphicData) < np.ptp(first.GraphicData)


def enhanced(folder: Path) -> Path:
    write_enhanced(folder, folder.with_name("enhanced.dcm"))
    return folder.with_name("enhanced.dcm")


def changed(**values: object) -> Callable[[Path], Path]:
    def change(folder: Path) -> Path:
        edit(folder, lambda _, header: [setattr(header, *item) for item in values.items()])
        return folder

    return change


def nameless(folder: Path) -> Path:
    gone = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber")
    edit(folder, lambda _, header: [header.pop(name, None) for name in gone])
    return folder


def big_endian(folder: Path) -> Path:
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pydicom.dcmwrite(path, dataset, little_endian=False, implicit_vr=False)
    return folder


def compressed(folder: Path) -> Path:
    for path in folder.iterdir():
        compress(path, "RLE")
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {
    "enhanced": enhanced,
    "repaired": tilt,
    "Japanese": changed(
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        PatientName="Yamada^Tarou=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060^\u305f\u308d\u3046",
    ),
    "empty values": changed(LossyImageCompression="", PatientAge="", PatientSex="X", ReferencedStudySequence=[]),
    "nameless": nameless,
    "big endian": big_endian,
    "compressed": compressed,
}


def errors_in(folder: Path) -> dict[str, list[str]]:
    errors = {}
    for path in folder.glob("*.dcm"):
        checked = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
        errors[path.stem] = [line for line in checked.stderr.splitlines() if line.startswith("Error")]
    return errors


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian: dicom3tools)")
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error_whatever_the_series(series: Path, tmp_path: Path, kind: str) -> None:
    shutil.copytree(series, tmp_path / "dicom")
    volume = open_volume(KINDS[kind](tmp_path / "dicom"), repair=True)
    (tmp_path / "objects").mkdir()
    write(predicted(volume, (CENTER, 6.0), (EMPTY, 0.0)), tmp_path / "objects")
    assert errors_in(tmp_path / "objects") == {"seg": [], "planar": [], "volumetric": []}
    source = pydicom.dcmread(volume.slices[0], stop_before_pixels=True)
    for document in read(tmp_path / "objects").values():
        for name in ("PatientName", "PatientID", "StudyInstanceUID"):
            assert str(document[name].value or "") == str(source.get(name) or "")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian: dicom3tools)")
def test_dciodvfy_finds_no_error_in_reports_of_several_nodules(objects: Path) -> None:
    assert errors_in(objects) == {"seg": [], "planar": [], "volumetric": []}


@pytest.mark.skipif(shutil.which("tid1500reader") is None, reason="needs dcmqi (PyPI: dcmqi)")
def test_dcmqi_reads_the_numbers_of_the_result(prediction: CtPrediction, objects: Path, tmp_path: Path) -> None:
    arguments = ["--inputDICOM", objects / "volumetric.dcm", "--outputMetadata", tmp_path / "read.json"]
    subprocess.run(["tid1500reader", *arguments], capture_output=True, check=True)
    groups = json.loads((tmp_path / "read.json").read_text(encoding="utf-8"))["Measurements"]
    assert [group["ReferencedSegment"] for group in groups] == [1, 2]
    for nodule, group in zip(prediction.nodules, groups, strict=False):
        found = {item["quantity"]["CodeMeaning"]: float(item["value"]) for item in group["measurementItems"]}
        assert found == pytest.approx(
            {
                "Long axis": nodule.measurements.longest_diameter_mm,
                "Short axis": nodule.measurements.perpendicular_diameter_mm,
                "Volume": nodule.measurements.volume_mm3,
                "Attenuation Coefficient": nodule.measurements.mean_hu,
                "Solid share of the volume": 100 * nodule.measurements.solid_fraction,
                **{f"Probability of {name}": 100 * value for name, value in nodule.probabilities.items()},
            },
            rel=1e-6,
        )


def test_an_outline_in_a_multi_frame_ct_refers_to_its_frame(series: Path, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(72).tolist()
    path = tmp_path / "enhanced.dcm"
    write_enhanced(series, path, order=order)
    prediction = predicted(open_volume(path), (CENTER, 6.0))
    (group,) = groups_of(planar(prediction, tmp_path / "sr.dcm"))
    (reference,) = group.roi.ContentSequence[0].ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
    # The ball's middle is between the slices 35 and 36; its long axis within two of them.
    assert order[reference.ReferencedFrameNumber - 1] in range(33, 39)


def test_a_series_without_instance_uids_is_refused(series: Path, tmp_path: Path) -> None:
    shutil.copytree(series, tmp_path / "dicom")
    prediction = predicted(open_volume(tmp_path / "dicom"), (CENTER, 6.0))
    edit(tmp_path / "dicom", lambda _, header: header.pop("StudyInstanceUID"))
    with pytest.raises(VolumeError, match="cannot refer to"):
        planar(prediction, tmp_path / "sr.dcm")
    assert not (tmp_path / "sr.dcm").exists()
