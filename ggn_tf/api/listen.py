"""A DICOM node: studies that an archive routes here are predicted, and the objects go back to an archive."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggn_tf.api.archive import OBJECTS, connect_archive
from ggn_tf.api.load import Model
from ggn_tf.errors import GgnError, LocationError, PacsError, VolumeError
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.prediction.class_codes import read_class_codes
from ggn_tf.prediction.dicom_points import read_dicom_points
from ggn_tf.prediction.locations import Location

if TYPE_CHECKING:
    from ggn_tf.dicom_node.node import Answer, Deliver, DicomNode


def listen(
    model: Model,
    title: str,
    callers: Sequence[str],
    send_to: str,
    queue: Path,
    *,
    port: int = 11112,
    host: str = "127.0.0.1",
    credentials: PacsCredentials | None = None,
    timeout: float = 60.0,
    quiet_s: float = 30.0,
    codes: Path | None = None,
    status_port: int | None = None,
) -> "DicomNode":
    """Start a node, which works until its `with` block is left.

    Args:
        model: Predicts.
        title: AE title of the node.
        callers: AE titles that may send.
        send_to: Archive that stores the answers: https://HOST/PATH of DICOMweb, or dicom://AET@HOST:PORT.
        queue: Folder for studies; the next node with it continues.
        port: Port for DICOM; 0 for a free one.
        host: Address to listen on. Nothing is encrypted.
        credentials: Who connects to the archive, and whom it trusts.
        timeout: Seconds for a connection to the archive, and for each wait for data.
        quiet_s: Seconds without a new instance after which a study is complete.
        codes: Table with the codes of the classes in the DICOM SR.
        status_port: Port of the status page on loopback; 0 for a free one, None for no page.

    Raises:
        GgnError: The archive's address, the port or the table of codes cannot be used, another process uses the queue,
            or the extra `pacs` is not installed.
    """
    known = credentials or PacsCredentials()
    # Address and files are checked now, and not when the first study is answered.
    connect_archive(send_to, known, timeout, title).close()
    if codes is not None:
        read_class_codes(codes, None)
    try:
        from ggn_tf.dicom_node.node import DicomNode
        from ggn_tf.dicom_node.receiver import ReceiverOptions
        from ggn_tf.dicom_node.study_queue import QueueLimits, StudyQueue
    except ImportError as error:
        raise PacsError(
            "A DICOM node needs packages that are not installed.",
            found=f"no package {error.name}",
            expected="the extra pacs",
            remedy="Install it: pip install 'ggn-tf[pacs]'.",
        ) from error
    options = ReceiverOptions(title, tuple(callers), port, host)
    studies = StudyQueue(queue, QueueLimits(quiet_s))
    return DicomNode(studies, options, _answers(model, codes), _deliveries(send_to, known, timeout, title), status_port)


def _answers(model: Model, codes: Path | None) -> "Answer":
    def answer(instances: Path, output: Path) -> list[Path]:
        ct, locations = _marked_series(instances)
        result: dict[str, Any] = model.predict(ct, locations).write(output, codes=codes)
        objects = [output / result[name] for name in OBJECTS if result[name] is not None]
        if not objects:
            raise VolumeError("No DICOM object can be made of the series.")
        return objects

    return answer


def _marked_series(instances: Path) -> tuple[Path, list[Location]]:
    """The CT series with the most marked nodules, of several the one with the most instances, and the nodules.

    Raises:
        GgnError: None is marked; the reason why the last object cannot be used.
    """
    from ggn_tf.dicom_node.study import MARKERS

    markers = sorted((instances / MARKERS).iterdir())
    found: list[tuple[int, int, Path, list[Location]]] = []
    reason: GgnError = LocationError("No nodule is marked.")
    for ct in sorted(path for path in instances.iterdir() if path.name != MARKERS):
        locations: list[Location] = []
        for marker in markers:
            try:
                locations += read_dicom_points(marker, ct)
            except (LocationError, VolumeError) as error:
                reason = error
        found.append((len(locations), len(list(ct.iterdir())), ct, locations))
    *_, ct, locations = max(found, key=lambda item: item[:2])
    if not locations:
        raise reason
    return ct, locations


def _deliveries(url: str, credentials: PacsCredentials, timeout: float, title: str) -> "Deliver":
    def deliver(files: Sequence[Path]) -> None:
        import pydicom

        study = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
        archive = connect_archive(url, credentials, timeout, title)
        try:
            archive.send(study, files)
        finally:
            archive.close()

    return deliver
