"""Who connects to a DICOM archive: token, password and certificates, from the environment or files."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ggn_tf.errors import PacsError

_TOKEN, _USER, _PASSWORD = "GGN_TF_PACS_TOKEN", "GGN_TF_PACS_USER", "GGN_TF_PACS_PASSWORD"
_LOOPBACK = ("localhost", "127.0.0.1")
_LARGEST_BYTES = 1 << 20


@dataclass(frozen=True)
class PacsCredentials:
    """What a client shows to an archive, and what it trusts.

    Attributes:
        token: Bearer token; None for none.
        user: User and password for basic authentication; None for none.
        authorities: PEM file with the authorities whose servers are trusted; None for those of the system.
        certificate: PEM file with the client's certificate; None for none.
        key: PEM file with its key; None where `certificate` contains it.
    """

    token: str | None = field(default=None, repr=False)
    user: tuple[str, str] | None = field(default=None, repr=False)
    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def read_credentials(
    file: Path | None = None,
    authorities: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> PacsCredentials:
    """The credentials of a file, or of the environment where there is none.

    `file` is JSON with `token`, or with `user` and `password`; only its owner may read it. In the environment are
    `GGN_TF_PACS_TOKEN`, or `GGN_TF_PACS_USER` and `GGN_TF_PACS_PASSWORD`. The other arguments are as in
    `PacsCredentials`.

    Raises:
        PacsError: A file is missing, the credentials are not complete, or others may read them.
    """
    for path, argument in ((authorities, "pacs_ca"), (certificate, "pacs_cert"), (key, "pacs_key")):
        if path is not None and not path.is_file():
            raise PacsError(
                "A file for TLS does not exist.", case=path, remedy="Name a PEM file.", arguments=(argument,)
            )
    names = {"token": _TOKEN, "user": _USER, "password": _PASSWORD}
    known = {name: environment.get(variable, "") for name, variable in names.items()}
    case = ", ".join(names.values()) if file is None else str(file)
    if file is not None:
        known = _read(file)
    if bool(known["user"]) != bool(known["password"]) or (known["token"] and known["user"]):
        raise _incomplete(case, ", ".join(name for name, value in known.items() if value))
    if any(not value.isprintable() for value in known.values()):
        raise _incomplete(case, "control characters")
    if not known["token"].isascii():
        raise _incomplete(case, "a token with characters that are not ASCII")
    user = (known["user"], known["password"]) if known["user"] else None
    return PacsCredentials(known["token"] or None, user, authorities, certificate, key)


def _read(file: Path) -> dict[str, str]:
    try:
        mode, size = file.stat().st_mode, file.stat().st_size
        document = json.loads(file.read_text(encoding="utf-8")) if size <= _LARGEST_BYTES else None
    except (OSError, ValueError) as error:
        # Not the error's text, which quotes the file.
        raise _incomplete(file, type(error).__name__) from error
    if os.name == "posix" and mode & 0o077:
        raise PacsError(
            "Others may read the credentials.",
            case=file,
            found=f"mode {mode & 0o777:o}",
            expected="mode 600",
            remedy=f"Run `chmod 600 {file.name}` in its folder.",
        )
    fields = ("token", "user", "password")
    if not isinstance(document, dict) or document.keys() - set(fields):
        raise _incomplete(file, "other fields")
    values = {name: document.get(name, "") for name in fields}
    if not any(values.values()) or not all(isinstance(value, str) for value in values.values()):
        raise _incomplete(file, "no text")
    return values


def refuse_unsafe_url(url: str) -> None:
    """Reject an archive's address that would send names or credentials unencrypted, or contains credentials.

    Raises:
        PacsError: It is not https://HOST/PATH; http:// is taken for this machine alone.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if set(url) & set("@?#"):
        # The address is not repeated: it may contain a password, also where it is not a URL.
        raise _unsafe("credentials or a query in the address")
    encrypted = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    # The client library does not take IPv6 addresses.
    if not host or ":" in host or port == 0 or not encrypted:
        raise _unsafe(url)


def _unsafe(found: str) -> PacsError:
    return PacsError(
        "The address of the archive cannot be used.",
        found=found,
        expected="https://HOST/PATH, for example https://pacs.example.org/dicom-web; http:// for this machine alone",
        remedy=f"Correct the address. Credentials are read from {_TOKEN}, {_USER} and {_PASSWORD}, or from a file.",
        arguments=("pacs_credentials",),
    )


def _incomplete(case: object, found: str) -> PacsError:
    return PacsError(
        "The credentials for the archive cannot be used.",
        case=case,
        found=found,
        expected='a token, or a user with a password; a file is {"token": "..."} or {"user": "...", "password": "..."}',
        remedy="Correct the variables or the file.",
        arguments=("pacs_credentials",),
    )
