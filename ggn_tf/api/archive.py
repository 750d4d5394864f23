"""A series of a DICOM archive as the CT of a prediction, and its objects back to the archive."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ggn_tf.errors import PacsError
from ggn_tf.pacs.archive import CALLING_AET, Archive, PacsSeries, is_dicom_url, needs_extra
from ggn_tf.pacs.credentials import PacsCredentials

OBJECTS = ("segmentation", "structured_report", "volumetric_report")
"""The names of DICOM objects in result.json."""


@dataclass(frozen=True)
class ArchivedSeries:
    """A fetched series.

    Attributes:
        folder: Its instances; deleted at the end of the block.
        found: Its UIDs.
        archive: Where it came from.
        marks: The report or segmentation that marks its nodules; None where none was requested.
    """

    folder: Path
    found: PacsSeries
    archive: Archive
    marks: Path | None = None

    def send(self, output: Path, result: Mapping[str, Any]) -> int:
        """Store the DICOM objects of a written result in the series' study, in one request.

        Takes the folder of the result, and its content of result.json.

        Returns:
            The number of objects.

        Raises:
            PacsError: There is no object, or the archive does not confirm every one.
        """
        objects = [output / result[name] for name in OBJECTS if result[name] is not None]
        if not objects:
            raise PacsError(
                "There is no DICOM object to send.",
                found="; ".join(warning["text"] for warning in result["warnings"]),
                expected="a DICOM SEG or SR of the series",
                remedy="See the warnings.",
            )
        return self.archive.send(self.found.study, objects)


@contextmanager
def fetch_series(
    url: str,
    study: str | None,
    series: str | None,
    credentials: PacsCredentials,
    timeout: float = 60.0,
    *,
    points_series: str | None = None,
    calling_aet: str = CALLING_AET,
    move_port: int | None = None,
) -> Iterator[ArchivedSeries]:
    """Fetch a CT series from an archive into a temporary folder that only its owner may enter.

    Args:
        url: https://HOST/PATH of a DICOMweb archive; dicom://AET@HOST:PORT, or dicom-tls:// for TLS, of another.
        study: StudyInstanceUID; None where a DICOMweb archive finds the series by its UID.
        series: SeriesInstanceUID; None for the one CT series of the study.
        credentials: Who connects, and whom it trusts.
        timeout: Seconds for a connection, and for each wait for data.
        points_series: SeriesInstanceUID of the report or segmentation that marks the nodules.
        calling_aet: AE title of this client, for dicom://.
        move_port: Port of this machine that receives a series by C-MOVE, for dicom://; None for C-GET.

    Raises:
        PacsError: The archive cannot be used, or does not have or deliver the series.
    """
    archive = connect_archive(url, credentials, timeout, calling_aet, move_port)
    try:
        found = archive.find(study, series)
        with TemporaryDirectory(prefix="ggn-tf-") as folder:
            ct, beside = _fetched(archive, found, Path(folder) / "ct"), Path(folder) / "marks"
            marks = None if points_series is None else _marks(archive, found.study, points_series, beside)
            yield ArchivedSeries(ct, found, archive, marks)
    finally:
        archive.close()


def connect_archive(
    url: str, credentials: PacsCredentials, timeout: float, calling_aet: str = CALLING_AET, move_port: int | None = None
) -> Archive:
    """Connect to an archive; the arguments are those of `fetch_series`.

    Raises:
        PacsError: An argument cannot be used, or the extra `pacs` is not installed.
    """
    with needs_extra():
        if is_dicom_url(url):
            from ggn_tf.pacs.dimse import Dimse

            return Dimse(url, credentials, timeout, calling_aet, move_port)
        from ggn_tf.pacs.dicomweb import DicomWeb

        return DicomWeb(url, credentials, timeout)


def _fetched(archive: Archive, found: PacsSeries, folder: Path) -> Path:
    folder.mkdir()
    archive.fetch(found, folder)
    return folder


def _marks(archive: Archive, study: str, series: str, folder: Path) -> Path:
    objects = [*_fetched(archive, archive.find(study, series), folder).iterdir()]
    if len(objects) != 1:
        raise PacsError(
            "The series with the nodules has several objects.",
            found=f"{len(objects)} objects",
            expected="one report or segmentation",
            remedy="Save the measurements in a new series, and give its UID.",
            arguments=("points_series",),
        )
    return objects[0]
