"""Application entities of a DICOM network, and their addresses."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ggn_tf.errors import PacsError

CALLING_AET = "GGNTF"
_LONGEST = 16
TITLE_RULE = f"1 to {_LONGEST} ASCII characters without a backslash"
_SCHEMES = ("dicom", "dicom-tls")


@dataclass(frozen=True)
class Entity:
    """An application entity of a network.

    Attributes:
        title: Its AE title.
        host: Name or address.
        port: Its port.
        encrypted: Whether it takes TLS.
    """

    title: str
    host: str
    port: int
    encrypted: bool

    @classmethod
    def parse(cls, url: str) -> "Entity":
        """The entity of dicom://AET@HOST:PORT, or dicom-tls:// for TLS.

        Raises:
            PacsError: It is not such an address.
        """
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
    """Reject what cannot be an AE title; `argument` sets it.

    Raises:
        PacsError: It is none.
    """
    if not is_title(title):
        raise PacsError(
            "The AE title cannot be used.", expected=TITLE_RULE, remedy="Correct it.", arguments=(argument,)
        )


def is_title(text: str) -> bool:
    """Whether a text is an AE title (PS3.5, 6.2), without the spaces around it, which have no meaning."""
    return 0 < len(text.strip()) == len(text) <= _LONGEST and text.isascii() and text.isprintable() and "\\" not in text
