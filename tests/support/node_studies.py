"""Studies that are sent to a DICOM node, and a node whose answers need no model."""

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from ggn_tf.cases.dicom.series_writer import uid
from ggn_tf.dicom_node.node import DicomNode
from ggn_tf.dicom_node.receiver import ReceiverOptions
from ggn_tf.dicom_node.study import MARKERS
from ggn_tf.dicom_node.study_queue import QueueLimits, StudyQueue
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.pacs.dicomweb import DicomWeb

CT, SEG, SR = (f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("2", "66.4", "88.34"))
NAME, PATIENT = "DOE^JOHN", "PID-4711"
ARCHIVE, NODE = "ARCHIVE", "GGNTF"
SOON = QueueLimits(quiet_s=0.3, longest_pause_s=0.2, spare_bytes=0)


def instance(study: object, sop_class: str, number: int = 0) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid(f"{study}/{sop_class}/{number}")
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid(str(study)), uid(f"{study}/{sop_class}")
    dataset.PatientName, dataset.PatientID = NAME, PATIENT
    if sop_class == CT:
        dataset.Rows = dataset.Columns = 16
        dataset.SamplesPerPixel, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 16, 16, 15
        dataset.PixelRepresentation, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.PixelData = bytes(512)
    return dataset


def whole_study(study: object) -> list[Dataset]:
    return [instance(study, CT, 0), instance(study, CT, 1), instance(study, SR)]


def send(address: str, datasets: Iterable[Dataset], calling: str = ARCHIVE, called: str = NODE) -> list[int | None]:
    """The status of each instance, None without one; no status at all where the association is refused."""
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 5
    for sop_class in (CT, SEG, SR):
        entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
    host, port = address.rsplit(":", 1)
    association = entity.associate(host, int(port), ae_title=called)
    statuses = []
    for dataset in datasets if association.is_established else ():
        statuses.append(
            association.send_c_store(dataset).get("Status") if association.is_established else None  # it was aborted
        )
    association.release()
    return statuses


def expected_uid(markers: Iterable[str]) -> str:
    return uid("/".join(["answer", *sorted(markers)]))


def answer(instances: Path, output: Path) -> tuple[list[Path], str]:
    """An SR about the markers; the time makes it likely that a kill comes within it."""
    markers = [pydicom.dcmread(path) for path in (instances / MARKERS).iterdir()]
    assert [path for path in instances.iterdir() if path.name != MARKERS], "no CT"
    output.mkdir(exist_ok=True)
    report = instance("answer", SR)
    report.StudyInstanceUID = markers[0].StudyInstanceUID
    report.SOPInstanceUID = expected_uid(marker.SOPInstanceUID for marker in markers)
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
    (output / "begun").write_text(NAME)
    time.sleep(0.02)
    report.save_as(output / "report.dcm", enforce_file_format=True)
    return [output / "report.dcm"], ""


def deliver_to(url: str):
    def deliver(files: Sequence[Path]) -> None:
        archive = DicomWeb(url, PacsCredentials(), 5.0)
        archive.send(str(pydicom.dcmread(files[0]).StudyInstanceUID), files)
        archive.close()

    return deliver


def options(port: int = 0, **changes: object) -> ReceiverOptions:
    return ReceiverOptions(NODE, (ARCHIVE,), port, **changes)


def run_node(queue: Path, port: int, url: str) -> None:
    """A process with a node, until it is killed."""
    logging.basicConfig(level=logging.INFO)
    with DicomNode(StudyQueue(queue, SOON), options(port), answer, deliver_to(url)):
        while True:
            time.sleep(1)
