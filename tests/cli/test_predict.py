import dataclasses
import gzip
import hashlib
import json
import re
import shutil
from pathlib import Path
from unittest.mock import Mock

import highdicom
import keras
import matplotlib.image
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from click.testing import CliRunner, Result

from ggn_tf.cases.dicom.folder import scan_series
from ggn_tf.cases.dicom.stack import Stack
from ggn_tf.cases.geometry.grid import Grid
from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import cut_patch_from
from ggn_tf.cases.volumes import open_volume
from ggn_tf.cli import main
from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.protocol import Protocol
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.bare_command import exits_without_tensorflow
from tests.support.chest import CENTER, TURNED, distance_mm, lung_grid, lung_with_balls, tilt, write_dicom, write_nifti
from tests.support.dicom_files import edit, write_enhanced
from tests.support.dicom_segmentations import affine_of, frames_of, labels_of
from tests.support.fake_dicomweb import Archive
from tests.support.loopback_server import free_port
from tests.support.small_model import build_small_model
from tests.support.threshold_model import build_threshold_model
from tests.support.tiny_protocol import tiny_protocol

# Neither is in the other's patch.
SECOND = (CENTER[0] - 5.0, CENTER[1] + 3.0, CENTER[2] - 24.0)
EMPTY = (CENTER[0], CENTER[1], CENTER[2] + 24.0)
GRID = lung_grid(direction=TURNED)
FILES = ["answer.html", "nodule_mask.nii.gz", "overlays", "result.json"]


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    """Trained with shifts, as recentring needs it."""
    tiny = tiny_protocol(size=32)
    segment = dataclasses.replace(tiny.training.segment, shift_mm=8.0)
    return dataclasses.replace(tiny, training=dataclasses.replace(tiny.training, segment=segment))


@pytest.fixture(scope="module")
def model(protocol: Protocol) -> keras.Model:
    return build_threshold_model(protocol.patch)


@pytest.fixture(scope="module")
def models(model: keras.Model, protocol: Protocol, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "ggn"
    export_model(model, INDOLENT_INVASIVE, protocol, folder)
    return folder


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two balls in lung, 6 mm around CENTER and 4 mm around SECOND, as NIfTI and as DICOM, and the first one's mask."""
    folder = tmp_path_factory.mktemp("ct")
    image = lung_with_balls(GRID, [(CENTER, 6.0), (SECOND, 4.0)])
    write_nifti(image, folder / "ct.nii.gz")
    write_dicom(image, folder / "dicom")
    write_nifti(GRID.image_of((distance_mm(GRID, CENTER) <= 6).astype(np.uint8)), folder / "mask.nii.gz")
    return folder


def predict(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def answered(*arguments: object) -> dict:
    result = predict(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def ras(point: tuple[float, float, float]) -> tuple[float, float, float]:
    return -point[0], -point[1], point[2]


def write_markups(path: Path, system: str, points: list[dict]) -> Path:
    markup = {"type": "Fiducial", "coordinateSystem": system, "controlPoints": points}
    path.write_text(json.dumps({"markups": [markup]}), encoding="utf-8")
    return path


def test_a_result_in_another_place_is_refused_before_the_model_predicts(
    ct: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.json").touch()
    sitk.WriteImage(sitk.Image((4, 4, 4), sitk.sitkUInt8), str(tmp_path / "nodule_mask.nii.gz"))
    monkeypatch.setattr("ggn_tf.api.load.predict_nodules", lambda *_, **__: pytest.fail("the model would predict"))
    result = predict(
        "--ct", ct / "dicom", "--mask", ct / "mask.nii.gz", "--export", models, "--output", tmp_path, "--align-masks"
    )
    assert result.exit_code == 1
    assert "a CT in another place or of another extent" in result.stderr


def test_by_export_and_by_server_the_answer_is_the_models(ct: Path, protocol: Protocol, small_export: Path) -> None:
    model, models = build_small_model(), small_export
    patch = cut_patch_from(ct / "ct.nii.gz", NoduleTarget(ct / "mask.nii.gz"), protocol.patch)
    hu = normalise_hu(patch.hu[None, ..., None], protocol.patch.window_hu)
    expected = model(hu, training=False)["probabilities"].numpy()[0]
    asked = ("--ct", ct / "ct.nii.gz", "--mask", ct / "mask.nii.gz")
    with ModelServer(models, ServerOptions(port=0)) as server:
        by_server = answered(*asked, "--server", f"127.0.0.1:{server.port}")
    by_export = answered(*asked, "--export", models)
    by_version = answered(*asked, "--export", models / "1")
    for document in (by_server, by_export, by_version):
        (nodule,) = document["nodules"]
        assert list(nodule["probabilities"]) == ["AAH+AIS", "MIA", "IAC"]
        np.testing.assert_allclose(list(nodule["probabilities"].values()), expected, atol=1e-5)
        assert nodule["decision"] == ["AAH+AIS", "MIA", "IAC"][int(expected.argmax())]
        assert document["model_version"] == 1
        np.testing.assert_allclose(nodule["center_mm_lps"], CENTER, atol=0.5)


def test_a_place_is_the_same_however_it_is_given(ct: Path, models: Path, tmp_path: Path) -> None:
    index = (31, 30, 36)
    center = tuple(GRID.point_of(index).tolist())
    markups = write_markups(tmp_path / "F.mrk.json", "RAS", [{"position": ras(center)}])
    places = [
        ("--center-mm", *center),
        ("--center-mm", *ras(center), "--ras"),
        ("--center-index", *index),
        ("--fiducials", markups),
    ]
    asked = ("--ct", ct / "ct.nii.gz", "--export", models, "--no-recenter")
    answers = [answered(*asked, *place)["nodules"] for place in places]
    for (nodule,) in answers:
        assert nodule["name"] == "nodule 1"
        assert nodule["center_index_xyz"] == list(index)
        assert nodule["center_mm_lps"] == pytest.approx(center)
        assert nodule["volume_mm3"] == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)
        # A point between two floats may lift a voxel over the threshold.
        assert nodule["mean_hu"] == pytest.approx(answers[0][0]["mean_hu"], abs=2)


def test_five_nodules_open_the_ct_once(ct: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned: list[Path] = []

    def counting(folder: Path, *arguments: object, **options: object) -> tuple[Stack, Grid]:
        scanned.append(folder)
        return scan_series(folder, *arguments, **options)

    monkeypatch.setattr("ggn_tf.cases.volumes.scan_series", counting)
    # In this process, which counts.
    monkeypatch.setattr("ggn_tf.prediction.ct_patches.run_in_reader", lambda function, *rest: function(*rest))
    centers = [(CENTER[0] + shift, *CENTER[1:]) for shift in range(5)]
    places = [argument for center in centers for argument in ("--center-mm", *center)]
    assert len(answered("--ct", ct / "dicom", "--export", models, *places)["nodules"]) == 5
    assert scanned == [ct / "dicom"]


def test_several_nodules_of_a_dicom_series_are_answered_and_written_as_a_whole(
    ct: Path, models: Path, tmp_path: Path
) -> None:
    points = [{"label": "upper", "position": CENTER}, {"label": "lower", "position": SECOND}]
    markups = write_markups(tmp_path / "F.mrk.json", "LPS", points)
    out = tmp_path / "answer"
    codes = tmp_path / "codes.csv"
    codes.write_text("class,code,scheme,meaning\nMIA+IAC,INVASIVE,99HOSPITAL,Invasive\n", encoding="utf-8")
    asked = ("--ct", ct / "dicom", "--fiducials", markups, "--export", models, "-o", out)
    document = answered(*asked, "--codes", codes, "--volumetric-sr")
    assert document == json.loads((out / "result.json").read_text(encoding="utf-8"))
    objects = ["nodule_mask.seg.dcm", "nodules.sr.dcm", "nodules_volumetric.sr.dcm"]
    assert [document[name] for name in ("segmentation", "structured_report", "volumetric_report")] == objects
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, *objects])
    assert [nodule["name"] for nodule in document["nodules"]] == ["upper", "lower"]
    assert [nodule["label"] for nodule in document["nodules"]] == [1, 2]
    assert [nodule["warnings"] for nodule in document["nodules"]] == [[], []]
    # The threshold is in the middle of the balls' soft edge: their surface.
    assert [nodule["diameter_mm"] for nodule in document["nodules"]] == pytest.approx([12.0, 8.0], rel=0.03)

    labels = sitk.ReadImage(str(out / document["mask"]))
    voxels = sitk.GetArrayFromImage(labels)
    for number, (center, radius_mm) in enumerate([(CENTER, 6.0), (SECOND, 4.0)], start=1):
        off = distance_mm(GRID, center) - radius_mm
        # Half a voxel.
        assert (voxels[off < -0.4] == number).all()
        assert not (voxels[off > 0.4] == number).any()
    volume = open_volume(ct / "dicom")
    np.testing.assert_allclose(labels.GetOrigin(), volume.stored_grid.origin_mm_lps, atol=1e-3)
    np.testing.assert_allclose(labels.GetDirection(), volume.stored_grid.direction, atol=1e-6)

    used = np.flatnonzero(voxels.any(axis=(1, 2)))
    found, affine = labels_of(out / document["segmentation"])
    np.testing.assert_array_equal(found, voxels[used[0] : used[-1] + 1])
    np.testing.assert_allclose(affine, affine_of(volume.stored_grid, int(used[0])), atol=1e-3)
    segmentation = pydicom.dcmread(out / document["segmentation"])
    source = pydicom.dcmread(volume.slices[0])
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["upper", "lower"]
    for name in objects[1:]:
        content = highdicom.sr.srread(out / name).content
        groups = [*content.get_planar_roi_measurement_groups(), *content.get_volumetric_roi_measurement_groups()]
        assert [group.tracking_identifier for group in groups] == ["upper", "lower"]
        parameters = [item for item in groups[0][0].ContentSequence if item.ValueType == "TEXT"]
        digest = hashlib.sha256((models / "1" / "assets.extra" / "SHA256SUMS").read_bytes()).hexdigest()
        assert any(digest in item.TextValue for item in parameters)

    for overlay in document["overlays"]:
        picture = matplotlib.image.imread(out / overlay)[..., :3]
        assert (np.abs(picture - np.array((255, 220, 0)) / 255).max(axis=2) < 0.01).sum() > 300


def test_codes_that_the_model_has_no_class_for_are_refused_before_anything_is_written(
    ct: Path, models: Path, tmp_path: Path
) -> None:
    codes = tmp_path / "codes.csv"
    codes.write_text("class,code,scheme,meaning\nMIA,8256/3,ICDO3,MIA\n", encoding="utf-8")
    asked = ("--ct", ct / "dicom", "--center-mm", *CENTER, "--export", models, "--codes", codes)
    told = refused(*asked, "-o", tmp_path / "answer")
    assert "row 2: class 'MIA' is none of the model's: AAH+AIS, MIA+IAC" in told and "--codes" in told
    assert not (tmp_path / "answer").exists()
    for option in (("--codes", codes), ("--volumetric-sr",)):
        result = predict("--ct", ct / "dicom", "--center-mm", *CENTER, "--export", models, *option)
        assert result.exit_code == 2 and "needs an --output" in result.output


def test_a_series_of_an_archive_is_answered_and_the_objects_are_sent_to_it(
    ct: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dicomweb_client.web", reason="needs the extra pacs")
    archive = Archive()
    archive.add(ct / "dicom")
    study = pydicom.dcmread(ct / "dicom" / "0001.dcm").StudyInstanceUID
    monkeypatch.setenv("GGN_TF_PACS_TOKEN", "secret")
    with archive.serve() as url:
        asked = ("--pacs", url, "--study", study, "--center-mm", *CENTER, "--export", models)
        documents = [answered(*asked, "--send") for _ in range(2)]
        archive.status["store"] = 503
        told = refused(*asked, "--send")
    (expected,) = answered("--ct", ct / "dicom", "--center-mm", *CENTER, "--export", models)["nodules"]
    assert [document["nodules"] for document in documents] == [[expected]] * 2
    assert [(document["sent"], document["segmentation"]) for document in documents] == [(2, None)] * 2
    added = [header for header in archive.headers() if header.Modality != "CT"]
    assert sorted(header.Modality for header in added) == ["SEG", "SR"]
    assert {header.StudyInstanceUID for header in added} == {study}
    assert told.startswith("error: The archive failed") and "503" in told and "--pacs" in told
    assert "secret" not in told and "PHANTOM" not in told and "Traceback" not in told


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--ct", "ct", "--pacs", "https://pacs"),
        ("--pacs", "https://pacs"),
        ("--ct", "ct", "--send"),
        ("--ct", "ct", "--study", "1.2"),
        ("--pacs", "https://pacs", "--study", "1.2", "--keep-ids"),
        ("--pacs", "https://pacs", "--study", "1.2", "--calling-aet", "A"),
        ("--pacs", "https://pacs", "--study", "1.2", "--move-port", "11112"),
        ("--pacs", "dicom://A@pacs:104", "--study", "1.2", "--pacs-credentials", "file"),
    ],
)
def test_options_of_an_archive_that_do_not_fit_are_refused(options: tuple[str, ...]) -> None:
    result = predict(*options, "--center-mm", *CENTER, "--export", "models")
    assert result.exit_code == 2 and "--pacs" in result.output


@pytest.mark.parametrize("name", ["nodules.sr.dcm", "nodule_mask.seg.dcm"])
def test_the_nodules_of_a_report_or_segmentation_are_found_again(
    ct: Path, models: Path, tmp_path: Path, name: str
) -> None:
    asked = ("--ct", ct / "dicom", "--export", models)
    answered(*asked, "--center-mm", *CENTER, "--center-mm", *SECOND, "-o", tmp_path / "answer")
    document = answered(*asked, "--points-from", tmp_path / "answer" / name)
    given = [nodule["given_center_mm_lps"] for nodule in document["nodules"]]
    assert [nodule["name"] for nodule in document["nodules"]] == ["nodule 1", "nodule 2"]
    assert np.abs(np.subtract(given, [CENTER, SECOND])).max() < 0.7


def test_of_a_volume_file_there_is_no_dicom(ct: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "answer"
    document = answered("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, "--export", models, "-o", out)
    assert document["segmentation"] is None and document["warnings"] == []
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_nothing_but_the_dicom_object_tells_who_it_was(ct: Path, models: Path, tmp_path: Path) -> None:
    shutil.copytree(ct / "dicom", tmp_path / "DOE_JOHN" / "ct")
    header = pydicom.dcmread(tmp_path / "DOE_JOHN" / "ct" / "0001.dcm")
    tags = ("PatientName", "PatientID", "StudyDate", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    secrets = {"DOE_JOHN", *(str(header[tag].value) for tag in tags)}
    assert {"PHANTOM-0001", "20000101"} <= secrets
    asked = (
        "--ct",
        tmp_path / "DOE_JOHN" / "ct",
        "--center-mm",
        *CENTER,
        "--export",
        models,
        "-o",
        tmp_path / "answer",
    )
    document = answered(*asked)
    for path in (path for path in (tmp_path / "answer").rglob("*") if path.is_file()):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found = {secret for secret in secrets if secret.encode() in content}
        # It belongs to the patient's study, so it must name both.
        assert path.name in (document["segmentation"], document["structured_report"]) or not found, (path.name, found)
    assert document["ct"] is None
    assert answered(*asked, "--keep-ids")["ct"] == str(tmp_path / "DOE_JOHN" / "ct")


def test_of_two_series_the_one_that_holds_the_place_or_is_named(ct: Path, models: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(ct / "dicom", study / "near")
    far = lung_grid()
    far = dataclasses.replace(far, origin_mm_lps=tuple(np.add(far.origin_mm_lps, 500).tolist()))
    write_dicom(lung_with_balls(far), study / "far", {"0008|103e": "far"})
    for number, path in enumerate(sorted((study / "far").iterdir())):
        path.rename(study / "near" / f"far-{number}.dcm")
    uid = pydicom.dcmread(study / "near" / "0001.dcm").SeriesInstanceUID
    out = tmp_path / "answer"
    document = answered("--ct", study / "near", "--center-mm", *CENTER, "--export", models, "-o", out)
    assert pydicom.dcmread(out / document["segmentation"]).ReferencedSeriesSequence[0].SeriesInstanceUID == uid
    place = ("--center-index", 31, 30, 36, "--export", models)
    assert "2 CT series" in refused("--ct", study / "near", *place)
    named = answered("--ct", study / "near", *place, "--series", uid, "--no-recenter")
    np.testing.assert_allclose(named["nodules"][0]["center_mm_lps"], GRID.point_of((31, 30, 36)), atol=1e-3)


def test_a_tilted_series_is_answered_only_with_repair_and_it_is_said(ct: Path, models: Path, tmp_path: Path) -> None:
    shutil.copytree(ct / "dicom", tmp_path / "tilted")
    tilt(tmp_path / "tilted")
    # The slice of the ball's middle is the 36th and a half from the lowest.
    moved = (CENTER[0], CENTER[1] + 0.31 * 35.5, CENTER[2])
    asked = ("--ct", tmp_path / "tilted", "--center-mm", *moved, "--export", models, "-o", tmp_path / "answer")
    told = refused(*asked)
    assert "a gantry tilt of 13.9 degrees" in told and "--repair" in told
    document = answered(*asked, "--repair")
    (nodule,) = document["nodules"]
    assert nodule["volume_mm3"] == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)
    (warning,) = nodule["warnings"]
    assert warning["code"] == "repaired" and "a gantry tilt of 13.9 degrees" in warning["text"]
    assert [warning["code"] for warning in document["warnings"]] == ["segmentation_on_slices"]
    # The ball is on the slices as in the series that was tilted, its middle where it was.
    inside = distance_mm(GRID, CENTER) <= 6
    names = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in open_volume(ct / "dicom").slices]
    frames = {frame.source: frame.inside for frame in frames_of(tmp_path / "answer" / document["segmentation"])}
    written = np.stack([frames.get(name, np.zeros(inside.shape[1:], bool)) for name in names])
    assert 2 * (written & inside).sum() / (written.sum() + inside.sum()) > 0.9
    np.testing.assert_allclose(np.argwhere(written).mean(axis=0), np.argwhere(inside).mean(axis=0), atol=0.5)


def test_a_mask_on_another_grid_is_taken_only_with_align_masks_and_it_is_said(
    ct: Path, models: Path, tmp_path: Path
) -> None:
    other = dataclasses.replace(GRID, origin_mm_lps=tuple(np.add(GRID.origin_mm_lps, (0.4, 0.4, 0)).tolist()))
    mask = write_nifti(other.image_of((distance_mm(other, CENTER) <= 6).astype(np.uint8)), tmp_path / "mask.nii.gz")
    asked = ("--ct", ct / "ct.nii.gz", "--mask", mask, "--export", models)
    told = refused(*asked)
    assert "The mask is not on its CT's grid." in told and "--align-masks" in told
    (nodule,) = answered(*asked, "--align-masks")["nodules"]
    np.testing.assert_allclose(nodule["center_mm_lps"], CENTER, atol=0.5)
    (warning,) = nodule["warnings"]
    assert warning["code"] == "repaired" and "the mask: put onto the CT's grid from" in warning["text"]


@pytest.mark.parametrize("flags", [("--repair",), ("--align-masks", "--repair")])
def test_where_nothing_is_wrong_nothing_is_put_right(ct: Path, models: Path, flags: tuple[str, ...]) -> None:
    (nodule,) = answered("--ct", ct / "dicom", "--mask", ct / "mask.nii.gz", "--export", models, *flags)["nodules"]
    assert nodule["warnings"] == []


def test_a_multi_frame_ct_is_answered_with_a_segmentation_of_its_frames(ct: Path, models: Path, tmp_path: Path) -> None:
    write_enhanced(ct / "dicom", tmp_path / "enhanced.dcm")
    asked = ("--ct", tmp_path / "enhanced.dcm", "--center-mm", *CENTER, "--export", models, "-o", tmp_path / "answer")
    document = answered(*asked)
    assert document["warnings"] == []
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "answer" / document["mask"])))
    used = np.flatnonzero(voxels.any(axis=(1, 2)))
    found, _ = labels_of(tmp_path / "answer" / document["segmentation"])
    np.testing.assert_array_equal(found, voxels[used[0] : used[-1] + 1])


def test_a_series_with_contrast_agent_is_answered_with_a_warning(ct: Path, models: Path, tmp_path: Path) -> None:
    shutil.copytree(ct / "dicom", tmp_path / "dicom")
    edit(tmp_path / "dicom", lambda _, header: setattr(header, "ContrastBolusAgent", "Iohexol"))
    (nodule,) = answered("--ct", tmp_path / "dicom", "--center-mm", *CENTER, "--export", models)["nodules"]
    assert [warning["code"] for warning in nodule["warnings"]] == ["contrast_agent"]


def test_a_person_reads_classes_decision_and_measures(ct: Path, models: Path) -> None:
    lines = predict("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, "--export", models).stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["AAH+AIS", "MIA+IAC"]
    assert "0.731" in lines[0]
    assert {"decision", "volume", "density", "centre", "model"} <= {line.split()[0] for line in lines if line}
    assert "not a medical device" in lines[-1]


def test_a_centre_beside_a_nodule_moves_to_it_unless_it_is_to_stay(ct: Path, models: Path) -> None:
    beside = (CENTER[0] + 4, CENTER[1] - 2, CENTER[2])
    asked = ("--ct", ct / "ct.nii.gz", "--center-mm", *beside, "--export", models)
    (moved,), (kept,) = answered(*asked)["nodules"], answered(*asked, "--no-recenter")["nodules"]
    assert moved["center_mm_lps"] == pytest.approx(CENTER, abs=0.4)
    assert kept["center_mm_lps"] == kept["given_center_mm_lps"] == moved["given_center_mm_lps"]
    assert kept["center_mm_lps"] == pytest.approx(beside, abs=0.01)
    assert moved["moved_mm"] == pytest.approx(np.sqrt(20), abs=0.4) and moved["moves"] >= 1
    assert (kept["moved_mm"], kept["moves"]) == (0, 0)
    (line,) = [line for line in predict(*asked).stdout.splitlines() if line.startswith("centre")]
    assert line.endswith(f"moved by {moved['moved_mm']:.1f} mm from the given centre")
    assert "moved by" not in predict(*asked, "--no-recenter").stdout


def test_a_server_moves_centres_as_the_export_does(ct: Path, models: Path) -> None:
    asked = ("--ct", ct / "dicom", "--center-mm", CENTER[0], CENTER[1] + 5, CENTER[2] - 3)
    with ModelServer(models, ServerOptions(port=0)) as server:
        by_server = answered(*asked, "--server", f"127.0.0.1:{server.port}")
    assert by_server["nodules"] == answered(*asked, "--export", models)["nodules"]
    assert by_server["nodules"][0]["moves"] >= 1


def test_a_model_that_was_trained_without_shifts_is_noted(ct: Path, small_export: Path, tmp_path: Path) -> None:
    asked = ("--ct", ct / "ct.nii.gz", "--export", small_export)
    point = ("--center-mm", *CENTER)
    document = answered(*asked, *point, "-o", tmp_path / "answer")
    assert [warning["code"] for warning in document["warnings"]] == ["trained_without_shifts"]
    assert json.loads((tmp_path / "answer" / "result.json").read_text(encoding="utf-8")) == document
    for places in ((*point, "--no-recenter"), ("--mask", ct / "mask.nii.gz")):
        assert answered(*asked, *places)["warnings"] == []


def test_a_person_reads_which_nodule_is_which_and_what_to_doubt(ct: Path, models: Path, tmp_path: Path) -> None:
    rim = (CENTER[0] + 20, CENTER[1], CENTER[2] + 24)
    places = ("--center-mm", *CENTER, "--center-mm", *rim)
    told = predict("--ct", ct / "dicom", *places, "--export", models, "-o", tmp_path / "answer").stdout
    first, second = told.split("2: nodule 2")
    assert first.startswith("1: nodule 1\n") and "warning" not in first
    assert second.count("warning    ") == 2 and "(option --ras)" in second
    # Nobody reads the probabilities of a patch without a nodule as an answer.
    assert second.rindex("warning    ") < second.index("AAH+AIS") < second.index("decision   no nodule found")


def test_without_any_nodule_there_is_no_segmentation_and_the_report_has_a_point(
    ct: Path, models: Path, tmp_path: Path
) -> None:
    asked = ("--ct", ct / "dicom", "--center-mm", *EMPTY, "--export", models, "-o", tmp_path / "answer")
    document = answered(*asked)
    (warning,) = document["nodules"][0]["warnings"]
    assert warning["code"] == "no_nodule" and "RAS" in warning["text"] and "--ras" not in warning["text"]
    assert document["segmentation"] is None
    assert [warning["code"] for warning in document["warnings"]] == ["no_segmentation"]
    report = highdicom.sr.srread(tmp_path / "answer" / document["structured_report"])
    assert [group.roi.GraphicType for group in report.content.get_planar_roi_measurement_groups()] == ["POINT"]


def test_a_series_without_a_frame_of_reference_is_answered_with_a_report_alone(
    ct: Path, models: Path, tmp_path: Path
) -> None:
    shutil.copytree(ct / "dicom", tmp_path / "dicom")
    for path in (tmp_path / "dicom").iterdir():
        slice_ = pydicom.dcmread(path)
        del slice_.FrameOfReferenceUID
        slice_.save_as(path)
    out = tmp_path / "answer"
    document = answered("--ct", tmp_path / "dicom", "--center-mm", *CENTER, "--export", models, "-o", out)
    assert [warning["code"] for warning in document["warnings"]] == ["no_segmentation"]
    assert "cannot refer to" in document["warnings"][0]["text"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "nodules.sr.dcm"])


def test_a_series_that_cannot_be_referred_to_is_answered_without_a_dicom_object(
    ct: Path, models: Path, tmp_path: Path
) -> None:
    shutil.copytree(ct / "dicom", tmp_path / "dicom")
    edit(tmp_path / "dicom", lambda _, header: header.pop("StudyInstanceUID"))
    out = tmp_path / "answer"
    document = answered("--ct", tmp_path / "dicom", "--center-mm", *CENTER, "--export", models, "-o", out)
    assert [warning["code"] for warning in document["warnings"]] == ["no_segmentation", "no_structured_report"]
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_a_second_answer_replaces_the_first_as_a_whole(ct: Path, models: Path, tmp_path: Path) -> None:
    asked = ("--export", models, "-o", tmp_path / "answer")
    answered("--ct", ct / "dicom", "--center-mm", *CENTER, "--center-mm", *SECOND, *asked)
    answered("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, *asked)
    assert sorted(path.name for path in (tmp_path / "answer").iterdir()) == FILES
    assert len(list((tmp_path / "answer" / "overlays").iterdir())) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "answer"]


@pytest.mark.parametrize("center", [CENTER, EMPTY], ids=["SEG and SR", "SR alone"])
def test_the_result_of_another_series_on_the_same_grid_is_kept(
    ct: Path, models: Path, tmp_path: Path, center: tuple[float, float, float]
) -> None:
    other, out = shutil.copytree(ct / "dicom", tmp_path / "other"), tmp_path / "answer"
    edit(other, lambda _, header: setattr(header, "SeriesInstanceUID", "2.25.7"))
    asked = ("--center-mm", *center, "--export", models, "-o", out)
    answered("--ct", ct / "dicom", *asked)
    before = (out / "result.json").read_bytes()
    refused = predict("--ct", other, *asked)
    assert refused.exit_code == 1 and "the result of another DICOM series" in refused.stderr
    assert (out / "result.json").read_bytes() == before


def test_no_server_is_one_block_without_a_traceback(ct: Path) -> None:
    target = f"127.0.0.1:{free_port()}"
    told = refused("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, "--server", target, "--timeout", 0.5)
    assert told.startswith("error: The model server cannot be reached.")
    assert target in told and "Traceback" not in told


def refused(*arguments: object) -> str:
    result = predict(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return result.stderr


def test_a_wrong_path_is_reported_before_a_reader_is_started(models: Path, monkeypatch: pytest.MonkeyPatch):
    started = Mock()
    monkeypatch.setattr("ggn_tf.cli.predict.start_ahead", started)
    refused("--ct=none.nii", "--center-mm", 0, 0, 0, "--export", models)
    started.assert_not_called()


def test_a_wrong_path_is_reported_before_tensorflow_is_loaded(ct: Path, models: Path, tmp_path: Path):
    paths = {"ct": ct / "ct.nii.gz", "mask": ct / "ct.nii.gz", "export": models}
    given = [{**paths, wrong: tmp_path / "none"} for wrong in paths]
    commands = [["predict", *(f"--{name}={path}" for name, path in each.items())] for each in given]
    assert exits_without_tensorflow(*commands) == [1, 1, 1]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"--export": ("none",)}, "There is no export here."),
        ({"--ct": ("none.nii.gz",)}, "none.nii.gz"),
        ({"--center-mm": (), "--fiducials": ("none.mrk.json",)}, "The markups file cannot be read."),
        ({"--center-mm": (), "--center-index": (10, 60, 10)}, "The voxel is outside the CT.*63, 59, 71"),
    ],
)
def test_what_cannot_be_used_is_refused(changed: dict[str, tuple], told: str, ct: Path, models: Path) -> None:
    given = {"--ct": (ct / "ct.nii.gz",), "--center-mm": CENTER, "--export": (models,)} | changed
    assert re.search(told, refused(*(part for name, parts in given.items() if parts for part in (name, *parts))), re.S)


def test_one_centre_outside_the_ct_refuses_the_call_and_nothing_is_written(
    ct: Path, models: Path, tmp_path: Path
) -> None:
    places = ("--center-mm", *CENTER, "--center-mm", 500, 0, 0)
    told = refused("--ct", ct / "ct.nii.gz", *places, "--export", models, "-o", tmp_path / "answer")
    assert "The centre is outside the CT." in told and "nodule 2" in told
    assert list(tmp_path.iterdir()) == []


def test_a_centre_in_ras_that_is_taken_for_lps_is_told_as_such(ct: Path, models: Path) -> None:
    told = refused("--ct", ct / "ct.nii.gz", "--center-mm", *ras(SECOND), "--export", models)
    assert "Give the centre as (5.00, -17.00, 81.00)" in told and "--ras" in told
    (nodule,) = answered("--ct", ct / "ct.nii.gz", "--center-mm", *ras(SECOND), "--ras", "--export", models)["nodules"]
    assert nodule["volume_mm3"] == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.05)


def test_a_served_model_with_another_patch_is_refused(ct: Path, tmp_path: Path) -> None:
    protocol = tiny_protocol()
    export_model(build_threshold_model(protocol.patch), INDOLENT_INVASIVE, protocol, tmp_path)
    with ModelServer(tmp_path, ServerOptions(port=0)) as server:
        target = f"127.0.0.1:{server.port}"
        told = refused("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, "--server", target)
    assert "another patch than the paper's" in told and "16 x 16 x 16 x 1" in told


@pytest.mark.parametrize("kind", ["a file", "somebody's folder"])
def test_nothing_of_others_is_written_over(ct: Path, models: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "a file":
        out.write_text("mine", encoding="utf-8")
    else:
        out.mkdir()
        (out / "result.json").write_text("{}", encoding="utf-8")
        (out / "thesis.docx").write_text("mine", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    told = refused("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, "--export", models, "-o", out)
    assert "The result cannot be written." in told and str(out) in told
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--ct"),
        (("--ct", "a"), "by one of --mask, --center-mm"),
        (("--ct", "a", "--mask", "b", "--center-mm", 1, 2, 3), "by one of --mask, --center-mm"),
        (("--ct", "a", "--fiducials", "b", "--center-index", 1, 2, 3), "by one of --mask, --center-mm"),
        (("--ct", "a", "--mask", "b"), "a --server or an --export"),
        (("--ct", "a", "--center-mm", 1, 2, 3, "--segment", "s"), "--segment needs a --mask."),
        (("--ct", "a", "--center-mm", 1, 2, 3, "--align-masks"), "--align-masks needs a --mask."),
        (("--ct", "a", "--center-index", 1, 2, 3, "--ras"), "--ras needs --center-mm"),
        (("--ct", "a", "--mask", "b", "--server", "c", "--export", "d"), "a --server or an --export"),
        (("--ct", "a", "--center-mm", 1, 2), "--center-mm"),
        (("--ct", "a", "--center-index", 1.5, 2, 3), "--center-index"),
    ],
)
def test_half_a_question_is_a_usage_error(arguments: tuple[object, ...], told: str) -> None:
    result = predict(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
