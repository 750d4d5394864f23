"""A real archive for tests: Orthanc on loopback with a configuration and a storage of its own."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from tests.support.loopback_server import free_port

# Where scripts/environment.sh unpacks it.
FOLDER = Path(sys.prefix) / "orthanc"
USER, PASSWORD, CALLER = "me", "secret", "GGNTF"
_SECONDS = 30


@dataclass(frozen=True)
class Orthanc:
    """A running archive: the addresses of its protocols, and the port to which it moves series."""

    web: str
    dicom: str
    move_port: int

    def count_by_qido(self, study: str) -> int:
        rows = requests.get(f"{self.web}/studies/{study}/instances", auth=(USER, PASSWORD), timeout=_SECONDS)
        return len(rows.json())

    def series_by_qido(self, study: str, modality: str) -> set[str]:
        url = f"{self.web}/studies/{study}/series?Modality={modality}"
        rows = requests.get(url, auth=(USER, PASSWORD), timeout=_SECONDS)
        return {row["0020000E"]["Value"][0] for row in rows.json()}

    def count_by_find(self, study: str) -> int:
        asked = Dataset()
        asked.QueryRetrieveLevel, asked.StudyInstanceUID, asked.NumberOfStudyRelatedInstances = "STUDY", study, None
        entity = AE(CALLER)
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        association = entity.associate("127.0.0.1", int(self.dicom.rpartition(":")[2]))
        answers = [
            match
            for _, match in association.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind)
            if match is not None
        ]
        association.release()
        return int(answers[0].NumberOfStudyRelatedInstances)


@contextlib.contextmanager
def running_orthanc(folder: Path, **settings: object) -> Iterator[Orthanc]:
    """Start it, with further settings; the test is skipped, or fails with GGN_TF_REQUIRE_ORTHANC, if it is missing."""
    program = shutil.which("Orthanc", path=os.pathsep.join((str(FOLDER / "usr/sbin"), "/usr/sbin", os.environ["PATH"])))
    if program is None:
        (pytest.fail if "GGN_TF_REQUIRE_ORTHANC" in os.environ else pytest.skip)("Orthanc is not installed")
    root = Path(program).parents[2]
    web, dicom, move = free_port(), free_port(), free_port()
    configuration = {
        "Locale": "C.UTF-8",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": web,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "RegisteredUsers": {USER: PASSWORD},
        "AuthenticationEnabled": True,
        "DicomModalities": {"client": [CALLER, "127.0.0.1", move]},
        "Plugins": [str(root / "usr/share/orthanc/plugins/libOrthancDicomWeb.so")],
        **settings,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    libraries = ":".join(map(str, root.glob("usr/lib/*-linux-gnu")))
    dictionary = next(
        iter([*root.glob("usr/share/libdcmtk*/dicom.dic"), *Path("/usr/share").glob("libdcmtk*/dicom.dic")])
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "DCMDICTPATH": str(dictionary)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], env=environment, stdout=log, stderr=log)
    try:
        _wait_for(web, process, folder / "log")
        yield Orthanc(f"http://127.0.0.1:{web}/dicom-web", f"dicom://ORTHANC@127.0.0.1:{dicom}", move)
    finally:
        process.terminate()
        process.wait(_SECONDS)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError(log.read_text())
