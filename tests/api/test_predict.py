import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

import ggn_tf
from ggn_tf.errors import ExportError, LocationError, ServingError
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.chest import CENTER, distance_mm, lung_grid, lung_with_balls, write_nifti
from tests.support.threshold_model import build_threshold_model
from tests.support.tiny_protocol import tiny_protocol

GRID = lung_grid()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    protocol = tiny_protocol(size=32)
    folder = tmp_path_factory.mktemp("models") / "ggn"
    export_model(build_threshold_model(protocol.patch), INDOLENT_INVASIVE, protocol, folder)
    return folder


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nifti(lung_with_balls(GRID, [(CENTER, 6.0)]), tmp_path_factory.mktemp("ct") / "ct.nii.gz")


def test_points_voxels_and_masks_name_the_same_nodule(models: Path, ct: Path, tmp_path: Path) -> None:
    mask = write_nifti(GRID.image_of((distance_mm(GRID, CENTER) <= 6).astype(np.uint8)), tmp_path / "mask.nii.gz")
    x, y, z = CENTER
    index = tuple(int(step) for step in np.rint(GRID.index_of(CENTER)))
    locations = [ggn_tf.Point(x, y, z, name="upper"), ggn_tf.Point(-x, -y, z, ras=True), ggn_tf.Voxel(*index)]
    with ggn_tf.load(models) as model:
        prediction = model.predict(ct, [*locations, ggn_tf.Mask(mask)], recenter=False)
    assert [nodule.name for nodule in prediction.nodules] == ["upper", "nodule 2", "nodule 3", "nodule 4"]
    for nodule in prediction.nodules:
        np.testing.assert_allclose(nodule.center_mm_lps, CENTER, atol=1.0)
        assert nodule.probabilities == pytest.approx({"AAH+AIS": 0.731, "MIA+IAC": 0.269}, abs=1e-3)
        assert nodule.measurements is not None and nodule.mask is not None
        assert nodule.measurements.volume_mm3 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)
        assert [warning.code for warning in nodule.warnings] == ["overlaps"]


def test_every_nodule_of_a_mask_is_predicted(models: Path, tmp_path: Path) -> None:
    centers = [CENTER, (CENTER[0] + 14, CENTER[1], CENTER[2])]
    ct = write_nifti(lung_with_balls(GRID, [(centers[0], 6.0), (centers[1], 4.0)]), tmp_path / "two.nii.gz")
    inside = np.any([distance_mm(GRID, c) <= r for c, r in zip(centers, (6.0, 4.0), strict=True)], axis=0)
    mask = write_nifti(GRID.image_of(inside.astype(np.uint8)), tmp_path / "mask.nii.gz")
    with ggn_tf.load(models) as model:
        prediction = model.predict(ct, [ggn_tf.Mask(mask, name="lesion"), ggn_tf.Point(*CENTER)])
    # The largest first.
    assert [nodule.name for nodule in prediction.nodules] == ["lesion 1", "lesion 2", "nodule 2"]
    for nodule, center in zip(prediction.nodules, [*centers, CENTER], strict=True):
        np.testing.assert_allclose(nodule.center_mm_lps, center, atol=0.3)


def test_a_server_predicts_as_the_export_does_and_results_are_written(models: Path, ct: Path, tmp_path: Path) -> None:
    with ggn_tf.serve(models, port=0) as server, ggn_tf.load(f"grpc://{server.address}") as model:
        served = model.predict(ct, [ggn_tf.Point(*CENTER)])
        assert (server.version, served.model_version) == (1, 1)
        assert model.class_names() == ("AAH+AIS", "MIA+IAC")
    with ggn_tf.load(models) as model:
        local = model.predict(ct, [ggn_tf.Point(*CENTER)])
        assert model.class_names() == ("AAH+AIS", "MIA+IAC")
    np.testing.assert_array_equal(*(sitk.GetArrayFromImage(prediction.labels) for prediction in (served, local)))
    result = served.write(tmp_path / "result")
    assert result == json.loads((tmp_path / "result" / "result.json").read_text(encoding="utf-8"))
    assert result["server"] == server.address and result["ct"] is None
    assert served.write(tmp_path / "result", keep_ids=True)["ct"] == str(ct)


def test_a_centre_outside_lung_is_warned_about_with_the_argument_that_may_be_missing(models: Path, ct: Path) -> None:
    soft = GRID.image_of(np.full(GRID.size_xyz[::-1], 40, np.int16))
    write_nifti(soft, ct.parent / "soft.nii")
    with ggn_tf.load(models) as model:
        x, y, z = CENTER
        locations = [ggn_tf.Point(x, y, z), ggn_tf.Point(-x, -y, z, ras=True), ggn_tf.Voxel(32, 30, 36)]
        nodules = model.predict(ct.parent / "soft.nii", locations).nodules
    about_lung = [warning.arguments for nodule in nodules for warning in nodule.warnings if warning.code == "no_lung"]
    assert about_lung == [("ras",), (), ()]


def test_errors(models: Path, ct: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        ggn_tf.load(tmp_path)
    with ggn_tf.load(models) as model:
        with pytest.raises(LocationError):
            model.predict(ct, [])
        with pytest.raises(LocationError):
            model.predict(ct, [ggn_tf.Voxel(*GRID.size_xyz)])


def test_3d_slicer_gets_the_prediction_of_predict(models: Path, ct: Path) -> None:
    voxel = tuple(int(step) for step in np.rint(GRID.index_of(CENTER)))
    click = json.dumps({"foreground": [voxel]})
    with ggn_tf.load(models) as model:
        denser = model.predict(ct, [ggn_tf.Voxel(*voxel)], solid_hu=-600.0).nodules[0].measurements
        assert denser is not None and denser.solid_hu == -600.0 and denser.solid_fraction > 0.5
        expected = json.loads(json.dumps(model.predict(ct, [ggn_tf.Voxel(*voxel)]).nodules[0].to_dict()))
    with ggn_tf.serve(models, port=0, monailabel_port=0) as server:
        url = str(server.monailabel_address)
        with ct.open("rb") as file:
            boundary, form = encode_multipart({"params": click, "file": FileStorage(file)})
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        request = urllib.request.Request(f"{url}/infer/ggn?output=json", form, kind)
        with urllib.request.urlopen(request, timeout=60) as response:
            assert json.load(response)["nodules"] == [expected]
        with (
            pytest.raises(ServingError) as raised,
            ggn_tf.serve(models, port=0, monailabel_port=int(url.rpartition(":")[2])),
        ):
            pass
        assert raised.value.arguments == ("monailabel_port",)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{url}/info/", timeout=5)
