"""What archives of every protocol have in common: addresses, series, and the checks of what was found and received."""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from ggn_tf.errors import ArchiveError, PacsError

MOST_INSTANCES = 20_000
"""Thin slices of a thorax are 1000; two reconstructions in one series 3000."""
STORED = "every object stored"
SEND_AGAIN = "Sending again is safe: the objects keep their UIDs."


@dataclass(frozen=True)
class PacsSeries:
    """A series of an archive."""

    study: str
    series: str


class Archive(Protocol):
    """A connection to an archive; each method raises a PacsError where the archive fails."""

    def find(self, study: str | None, series: str | None) -> PacsSeries:
        """Find a series by its UID, or the one CT series of a study."""

    def fetch(self, wanted: PacsSeries, folder: Path) -> None:
        """Write every instance of a series into an empty folder."""

    def send(self, study: str, objects: Sequence[Path]) -> int:
        """Store objects; the archive keeps one copy of what is stored again. Returns their number."""

    def close(self) -> None:
        """Close the connection."""


@contextmanager
def needs_extra() -> Iterator[None]:
    """PacsError in place of import errors in the block, where the extra `pacs` is not installed."""
    try:
        yield
    except ImportError as error:
        raise PacsError(
            "DICOM archives and nodes need packages that are not installed.",
            found=f"no package {error.name}",
            expected="the extra pacs",
            remedy="Install it: pip install 'ggn-tf[pacs]'.",
        ) from error


def choose_series(found: Iterable[tuple[str, str, str]], series: str | None, case: str) -> PacsSeries:
    """The requested series, or the one CT series.

    Takes study, series and modality of each that was found. The case is the archive, for errors.

    Raises:
        PacsError: There is none, or more than one.
    """
    matching = {
        (study, uid)
        for study, uid, modality in found
        if study and uid and (modality == "CT" if series is None else uid == series)
    }
    if len(matching) != 1:
        raise ArchiveError(
            "The archive has no such series." if not matching else "The study has several CT series.",
            case=case,
            found=", ".join(sorted(uid for _, uid in matching)) or "no series",
            expected="one CT series" if series is None else "the series",
            remedy="Give the UID of the series." if matching else "Check the UIDs and the rights of the account.",
            arguments=("series", "study"),
        )
    return PacsSeries(*matching.pop())


def refuse_incomplete(announced: AbstractSet[str], received: AbstractSet[str], case: str) -> None:
    """Raise PacsError for other instances than an archive lists for a series."""
    if not announced or received != announced:
        raise ArchiveError(
            "The archive did not deliver the series that it announced.",
            case=case,
            found=f"{len(received & announced)} of {len(announced)} instances, and {len(received - announced)} others",
            expected="every instance that it lists for the series",
            remedy="Repeat the command when the archive has received the whole series.",
        )


CALLING_AET = "GGNTF"
_LONGEST = 16
TITLE_RULE = f"1 to {_LONGEST} ASCII characters without a backslash"
_SCHEMES = ("dicom", "dicom-tls")


@dataclass(frozen=True)
class Entity:
    """An application entity of a network.

    Attributes:
        encrypted: Whether it takes TLS.
    """

    title: str
    host: str
    port: int
    encrypted: bool

    @classmethod
    def parse(cls, url: str) -> "Entity":
        """The entity of dicom://AET@HOST:PORT, or dicom-tls:// for TLS; PacsError for another address."""
        try:
            parts = urlsplit(url)
            title, host, port = unquote(parts.username or ""), parts.hostname, parts.port
        except ValueError:
            parts, title, host, port = urlsplit(""), "", None, None
        further = parts.password is not None or parts.path or parts.query or parts.fragment
        if parts.scheme not in _SCHEMES or further or not (is_title(title) and host and port):
            # The address is not repeated: it may contain a password.
            raise PacsError(
                "The address of the archive cannot be used.",
                expected=f"dicom://AET@HOST:PORT, or dicom-tls:// for TLS; AET has {TITLE_RULE}",
                remedy="Correct the address. It contains no password.",
                arguments=("pacs",),
            )
        return cls(title, host, port, parts.scheme == _SCHEMES[1])

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"


def is_dicom_url(url: str) -> bool:
    """Whether an address is that of an application entity, and not of a web service."""
    return url.partition("://")[0].lower() in _SCHEMES


def refuse_bad_title(title: str, argument: str) -> None:
    """Raise PacsError for what cannot be an AE title; `argument` sets it."""
    if not is_title(title):
        raise PacsError(
            "The AE title cannot be used.", expected=TITLE_RULE, remedy="Correct it.", arguments=(argument,)
        )


def is_title(text: str) -> bool:
    """Whether a text is an AE title (PS3.5, 6.2), without the spaces around it, which have no meaning."""
    return 0 < len(text.strip()) == len(text) <= _LONGEST and text.isascii() and text.isprintable() and "\\" not in text
