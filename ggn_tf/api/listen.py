"""A DICOM node: studies that an archive routes here are predicted, and the objects go back to an archive."""

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggn_tf.api.archive import OBJECTS, connect_archive
from ggn_tf.api.load import Model
from ggn_tf.cases.reader_process import ReaderEndedError
from ggn_tf.errors import LocationError, VolumeError
from ggn_tf.pacs.archive import needs_extra, refuse_bad_title
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.prediction.class_codes import read_class_codes
from ggn_tf.prediction.dicom_points import DicomPoints, read_several
from ggn_tf.prediction.locations import Location

if TYPE_CHECKING:
    from ggn_tf.dicom_node.node import Answer, Deliver, DicomNode

# Far more than a CT has; a segmentation of many organs marks more.
_MOST_NODULES = 200


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
        GgnError: The archive's address, an AE title, the port or the table of codes cannot be used, another process
            uses the queue, or the extra `pacs` is not installed.
    """
    known = credentials or PacsCredentials()
    check_node(title, callers, send_to, queue, known, timeout, port, host, status_port)
    if codes is not None:
        read_class_codes(codes, model.class_names())
    with needs_extra():
        from ggn_tf.dicom_node.node import DicomNode
        from ggn_tf.dicom_node.receiver import ReceiverOptions
        from ggn_tf.dicom_node.study_queue import QueueLimits, StudyQueue
    options = ReceiverOptions(title, tuple(callers), port, host)
    studies = StudyQueue(queue, QueueLimits(quiet_s))
    return DicomNode(studies, options, _answers(model, codes), _deliveries(send_to, known, timeout, title), status_port)


def check_node(
    title: str,
    callers: Sequence[str],
    send_to: str,
    queue: Path,
    credentials: PacsCredentials,
    timeout: float,
    port: int,
    host: str,
    status_port: int | None,
) -> None:
    """Check what `listen` can refuse without a model, and not when the first study is answered; errors as there."""
    refuse_bad_title(title, "title")
    for caller in callers:
        refuse_bad_title(caller, "callers")
    connect_archive(send_to, credentials, timeout, title).close()
    with needs_extra():
        from ggn_tf.dicom_node.node import refuse_taken
        from ggn_tf.dicom_node.receiver import Receiver, ReceiverOptions
        from ggn_tf.dicom_node.study_queue import StudyQueue
    studies = StudyQueue(queue)
    studies.refuse_other_folder()
    studies.refuse_used()
    with closing(Receiver(ReceiverOptions(title, tuple(callers), port, host), studies.receive)):
        if status_port is not None:
            refuse_taken(status_port)


def _answers(model: Model, codes: Path | None) -> "Answer":
    def answer(instances: Path, output: Path) -> tuple[list[Path], str]:
        # Of an attempt that ended before the study had all of its instances.
        shutil.rmtree(output, ignore_errors=True)
        ct, locations, note = _marked_series(instances)
        result: dict[str, Any] = model.predict(ct, locations).write(output, codes=codes)
        objects = [output / result[name] for name in OBJECTS if result[name] is not None]
        if not objects:
            raise VolumeError("No DICOM object can be made of the series.")
        return objects, note

    return answer


def _marked_series(instances: Path) -> tuple[Path, list[Location], str]:
    """The CT series with the most nodules, those of objects that reference it first; the nodules; what was left out.

    Raises:
        LocationError, VolumeError: None is marked, or there are too many.
    """
    from ggn_tf.dicom_node.study import MARKERS

    markers = sorted((instances / MARKERS).iterdir())
    found: list[tuple[tuple[int, ...], Path, list[DicomPoints]]] = []
    unreadable: list[VolumeError] = []
    for ct in sorted(path for path in instances.iterdir() if path.name != MARKERS):
        try:
            read = read_several(markers, ct)
        except VolumeError as error:
            if isinstance(error.__cause__, ReaderEndedError):
                raise
            unreadable.append(error)
            continue
        counts = [len(marked.locations) for marked in read]
        ranked = sum(marked.rank * count for marked, count in zip(read, counts, strict=True))
        ranks = sum(marked.rank for marked in read)
        found.append(((ranked, sum(counts), ranks, len(list(ct.iterdir()))), ct, read))
    if not found:
        raise unreadable[0]
    _, ct, read = max(found, key=lambda item: item[0])
    locations = [location for marked in read for location in marked.locations]
    errors = [marked.error for marked in sorted(read, key=lambda marked: -marked.rank) if marked.error is not None]
    if not locations:
        others = [f"{len(unreadable)} CT series that cannot be read ({unreadable[0].what})"] if unreadable else []
        raise LocationError(errors[0].what, found="; ".join([errors[0].found or "", *others]))
    if len(locations) > _MOST_NODULES:
        raise LocationError(
            "The study marks too many nodules.", found=len(locations), expected=f"up to {_MOST_NODULES}"
        )
    unused = [f"{len(errors)} of {len(read)} SR and SEG were not used: {errors[0].found}."] if errors else []
    return ct, locations, " ".join([*unused, *(note for marked in read for note in marked.notes)])


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
