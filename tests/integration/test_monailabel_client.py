"""MONAI Label's own Python client. `GGN_TF_MONAILABEL` names the folder that `pip install --no-deps --target` wrote."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import ggn_tf
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.chest import CENTER, distance_mm, lung_grid, lung_with_balls, write_nifti
from tests.support.threshold_model import build_threshold_model
from tests.support.tiny_protocol import tiny_protocol

GRID = lung_grid((0.7, 0.9, 1.3), (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0))


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = os.environ.get("GGN_TF_MONAILABEL")
    if folder is None or sys.version_info >= (3, 13):
        pytest.skip("needs GGN_TF_MONAILABEL, and Python before 3.13: the client imports cgi")
    monkeypatch.setattr(sys, "path", [*sys.path, folder])
    with pytest.warns(DeprecationWarning, match="cgi"):
        return importlib.import_module("monailabel.client.client")


@pytest.fixture
def server(tmp_path: Path) -> ggn_tf.Server:
    protocol = tiny_protocol(size=32)
    export_model(build_threshold_model(protocol.patch), INDOLENT_INVASIVE, protocol, tmp_path / "ggn")
    return ggn_tf.serve(tmp_path / "ggn", port=0, monailabel_port=0)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_monai_labels_own_client(module: Any, server: ggn_tf.Server, tmp_path: Path) -> None:
    ct = write_nifti(lung_with_balls(GRID), tmp_path / "ct.nii.gz")
    client, second = (module.MONAILabelClient(server.monailabel_address, str(tmp_path)) for _ in range(2))
    assert client.info()["models"]["ggn"]["type"] == "deepgrow" and not client.auth_enabled()
    session = client.create_session(str(ct))["session_id"]
    assert client.get_session(session)["name"] == session
    voxel = [round(step) for step in GRID.index_of(CENTER)]
    for user in (client, second):
        file, document = user.infer("ggn", "volume", {"foreground": [voxel]}, session_id=session)
        found, ball = sitk.GetArrayFromImage(sitk.ReadImage(file)), distance_mm(GRID, CENTER) <= 6
        assert 2 * np.sum(found * ball) / (found.sum() + ball.sum()) > 0.9
        assert set(document["nodules"][0]["probabilities"]) == {"AAH+AIS", "MIA+IAC"}
    file, _ = client.infer("ggn", "x", {"foreground": [voxel]}, file=str(ct))
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(file)), found)
    for wrong in ({}, {"foreground": [[900, 0, 0]]}):
        with pytest.raises(module.MONAILabelClientException):
            client.infer("ggn", "volume", wrong, session_id=session)
    (tmp_path / "large.nii").write_bytes(b"")
    os.truncate(tmp_path / "large.nii", 300 << 20)
    client.remove_session(client.create_session(str(tmp_path / "large.nii"))["session_id"])
    os.truncate(tmp_path / "large.nii", 600 << 20)
    with pytest.raises(module.MONAILabelClientException) as raised:
        client.create_session(str(tmp_path / "large.nii"))
    assert raised.value.status_code == 413
    client.remove_session(session)
    with pytest.raises(module.MONAILabelClientException):
        second.get_session(session)
    server.stop()
    with pytest.raises(OSError):
        client.info()
