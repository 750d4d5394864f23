"""A series of a DICOM archive as the CT of a prediction, and its objects back to the archive."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ggn_tf.errors import PacsError
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.pacs.dicomweb import DicomWeb, PacsSeries

OBJECTS = ("segmentation", "structured_report", "volumetric_report")
"""The names of DICOM objects in result.json."""


@dataclass(frozen=True)
class ArchivedSeries:
    """A fetched series.

    Attributes:
        folder: Its instances; deleted at the end of the block.
        found: Its UIDs.
        archive: Where it came from.
    """

    folder: Path
    found: PacsSeries
    archive: DicomWeb

    def send(self, output: Path, result: Mapping[str, Any]) -> int:
        """Store the DICOM objects of a written result in the series' study, in one request.

        Args:
            output: The folder that the result was written to.
            result: Its content of result.json.

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
    url: str, study: str | None, series: str | None, credentials: PacsCredentials, timeout: float = 60.0
) -> Iterator[ArchivedSeries]:
    """Fetch a CT series from a DICOMweb archive into a temporary folder that only its owner may enter.

    Args:
        url: https://HOST/PATH of the archive.
        study: StudyInstanceUID; None where the series' UID is enough.
        series: SeriesInstanceUID; None for the one CT series of the study.
        credentials: Who connects, and whom it trusts.
        timeout: Seconds for a connection, and for each wait for data.

    Raises:
        PacsError: The archive cannot be used, or does not have or deliver the series.
    """
    archive = DicomWeb(url, credentials, timeout)
    try:
        found = archive.find(study, series)
        with TemporaryDirectory(prefix="ggn-tf-") as folder:
            archive.fetch(found, Path(folder))
            yield ArchivedSeries(Path(folder), found, archive)
    finally:
        archive.close()


def connect_archive(url: str, credentials: PacsCredentials, timeout: float, calling_aet: str) -> DicomWeb:
    """Connect to an archive; the arguments are those of `fetch_series`."""
    return DicomWeb(url, credentials, timeout)
