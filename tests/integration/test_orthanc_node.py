"""A node to which a real Orthanc routes by serving/routing.lua, and which sends its answers there."""

from pathlib import Path

import pydicom
import pytest

from ggn_tf.api.listen import listen
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.pacs.dicomweb import DicomWeb
from tests.dicom_node.test_listen import Model, marked, states
from tests.dicom_node.test_node import wait
from tests.support.chest import CENTER, lung_grid, lung_with_balls, write_dicom
from tests.support.loopback_server import free_port
from tests.support.node_studies import NODE
from tests.support.orthanc import PASSWORD, USER, running_orthanc

ROUTING = Path(__file__).parents[2] / "serving" / "routing.lua"


@pytest.mark.slow
def test_a_study_that_orthanc_routes_comes_back_once_as_seg_and_sr(tmp_path: Path) -> None:
    port = free_port()
    settings = {
        "StableAge": 1,
        "LuaScripts": [str(ROUTING)],
        "DicomModalities": {"ggntf": [NODE, "127.0.0.1", port]},
    }
    queue = tmp_path / "queue"
    ct = write_dicom(lung_with_balls(lung_grid())[:, :, 24:48], tmp_path / "ct")
    first = pydicom.dcmread(next(ct.iterdir()))
    report = marked(first, tmp_path, CENTER)
    report.PatientID = first.PatientID
    report.save_as(tmp_path / "marks.dcm")
    (tmp_path / "orthanc").mkdir()
    with running_orthanc(tmp_path / "orthanc", **settings) as orthanc:
        archive = DicomWeb(orthanc.web, PacsCredentials(user=(USER, PASSWORD)), 30.0)
        archive.send(first.StudyInstanceUID, [*ct.iterdir(), tmp_path / "marks.dcm"])
        archive.close()
        with listen(Model(), NODE, ["ORTHANC"], orthanc.dicom, queue, port=port, quiet_s=1.0):
            wait(lambda: states(queue) == {"delivered": 1}, 90)
            # Orthanc routes the study again, with the answer.
            wait(lambda: states(queue) == {"delivered": 1, "receiving": 1}, 30)
            wait(lambda: states(queue) == {"delivered": 1}, 30)
        assert orthanc.count_by_qido(first.StudyInstanceUID) == 24 + 1 + 2
