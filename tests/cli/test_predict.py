import dataclasses
import json
import socket
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from click.testing import CliRunner

from ggn_tf.cases.patches import cut_patch
from ggn_tf.cli import main
from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.models.cascade import build_cascade
from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.export import export_model
from ggn_tf.serving.server import ModelServer, ServerOptions
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.untrained_run import small_protocol

CENTER = (10.0, -20.0, 105.0)


@pytest.fixture(scope="module")
def protocol():
    return dataclasses.replace(small_protocol(), patch=PatchProtocol())


@pytest.fixture(scope="module")
def model(protocol):
    return build_cascade(2, protocol, seed=3)


@pytest.fixture(scope="module")
def models(model, protocol, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "ggn"
    export_model(model, INDOLENT_INVASIVE, protocol, folder)
    return folder


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    """64 x 60 x 40 voxels of lung with a ball of 6 mm radius around CENTER, and its mask."""
    folder = tmp_path_factory.mktemp("ct")
    spacing, size = np.array([0.8, 0.8, 1.25]), np.array([64, 60, 40])
    origin = np.array(CENTER) - spacing * [30, 30, 20]
    z, y, x = np.meshgrid(*(np.arange(n) for n in size[::-1]), indexing="ij")
    points = origin + np.stack([x, y, z], axis=-1) * spacing
    ball = np.linalg.norm(points - CENTER, axis=-1) <= 6
    for name, values in {"ct": np.where(ball, -500, -850).astype(np.int16), "mask": ball.astype(np.uint8)}.items():
        image = sitk.GetImageFromArray(values)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(origin.tolist())
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    return folder


def predict(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def test_by_export_and_by_server_the_answer_is_the_models(ct, models, model, protocol):
    patch = cut_patch(ct / "ct.nii.gz", protocol.patch, mask_path=ct / "mask.nii.gz")
    hu = normalise_hu(patch.hu[None, ..., None], protocol.patch.window_hu)
    expected = model.predict(hu, verbose=0)["probabilities"][0]
    asked = ("--ct", ct / "ct.nii.gz", "--mask", ct / "mask.nii.gz", "--json")
    with ModelServer(models, ServerOptions(port=0)) as server:
        by_server = predict(*asked, "--server", f"127.0.0.1:{server.port}")
    by_export = predict(*asked, "--export", models)
    by_version = predict(*asked, "--export", models / "1")
    for result in (by_server, by_export, by_version):
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        assert list(document["probabilities"]) == ["AAH+AIS", "MIA+IAC"]
        np.testing.assert_allclose(list(document["probabilities"].values()), expected, atol=1e-5)
        assert document["decision"] == ["AAH+AIS", "MIA+IAC"][int(expected.argmax())]
        assert document["model_version"] == 1
        np.testing.assert_allclose(document["center_mm_lps"], CENTER, atol=0.5)


def test_the_mask_lies_on_the_cts_grid_and_its_volume_is_told(ct, models, tmp_path):
    out = tmp_path / "answer"
    result = predict("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, "--export", models, "-o", out)
    assert result.exit_code == 0, result.output
    mask, image = sitk.ReadImage(str(out / "nodule_mask.nii.gz")), sitk.ReadImage(str(ct / "ct.nii.gz"))
    assert mask.GetSize() == image.GetSize()
    np.testing.assert_allclose(mask.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(mask.GetSpacing(), image.GetSpacing(), atol=1e-6)
    voxels = sitk.GetArrayFromImage(mask)
    assert set(np.unique(voxels)) <= {0, 1}
    document = json.loads((out / "result.json").read_text())
    assert document["nodule_volume_mm3"] == pytest.approx(voxels.sum() * 0.8 * 0.8 * 1.25, rel=1e-6)
    assert document["mask"] == "nodule_mask.nii.gz"
    assert sorted(path.name for path in out.iterdir()) == ["nodule_mask.nii.gz", "result.json"]


def test_a_person_reads_classes_decision_and_volume(ct, models):
    result = predict("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, "--export", models)
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["AAH+AIS", "MIA+IAC"]
    assert {"decision", "volume", "centre", "model"} <= {line.split()[0] for line in lines if line}
    assert "not a medical device" in lines[-1]


def test_a_second_answer_replaces_the_first(ct, models, tmp_path):
    for _ in range(2):
        asked = ("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, "--export", models, "-o", tmp_path)
        assert predict(*asked).exit_code == 0


def test_no_server_is_one_block_without_a_traceback(ct):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-c", "from ggn_tf.cli import main; main()", "predict", "--ct", str(ct / "ct.nii.gz")]
    asked = ["--center-mm", *map(str, CENTER), "--server", target, "--timeout", "0.5"]
    result = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "error: No model server answers." in result.stderr
    assert target in result.stderr
    assert "Traceback" not in result.stderr


def refused(*arguments):
    result = predict(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return result.stderr


def test_a_folder_that_is_no_export_is_refused(ct, tmp_path):
    told = refused("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, "--export", tmp_path)
    assert "There is no export here." in told and str(tmp_path) in told


def test_a_centre_outside_the_ct_is_refused(ct, models):
    told = refused("--ct", ct / "ct.nii.gz", "--center-mm", 500, 0, 0, "--export", models)
    assert "The centre lies outside the CT." in told


def test_a_ct_that_is_not_there_is_refused(models, tmp_path):
    told = refused("--ct", tmp_path / "none.nii.gz", "--center-mm", *CENTER, "--export", models)
    assert "none.nii.gz" in told


def test_a_served_model_with_another_patch_is_refused(ct, tmp_path):
    protocol = small_protocol()
    export_model(build_cascade(2, protocol), INDOLENT_INVASIVE, protocol, tmp_path)
    with ModelServer(tmp_path, ServerOptions(port=0)) as server:
        target = f"127.0.0.1:{server.port}"
        told = refused("--ct", ct / "ct.nii.gz", "--center-mm", *CENTER, "--server", target)
    assert "another patch than the paper's" in told and "16 x 16 x 16 x 1" in told


def test_an_answer_that_cannot_be_written_is_refused(ct, models, tmp_path):
    (tmp_path / "file").write_text("")
    place = ("--center-mm", *CENTER, "--export", models, "-o", tmp_path / "file")
    assert "The answer cannot be written." in refused("--ct", ct / "ct.nii.gz", *place)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--ct"),
        (("--ct", "a"), "either --mask or --center-mm"),
        (("--ct", "a", "--mask", "b", "--center-mm", 1, 2, 3), "either --mask or --center-mm"),
        (("--ct", "a", "--mask", "b"), "a --server or an --export"),
        (("--ct", "a", "--center-mm", 1, 2, 3, "--segment", "s"), "A --segment is a part of a --mask."),
        (("--ct", "a", "--mask", "b", "--server", "c", "--export", "d"), "a --server or an --export"),
        (("--ct", "a", "--center-mm", 1, 2), "--center-mm"),
    ],
)
def test_half_a_question_is_a_usage_error(arguments, told):
    result = predict(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
