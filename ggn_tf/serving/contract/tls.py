"""Addresses of model servers, and TLS certificates and keys from PEM files.

They are checked before they are used: gRPC itself does not report a wrong one.
"""

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract.wire import PORT

# gRPC's own names for addresses, for example unix:/run/ggn.sock or dns:///host:8500.
_URI = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):", re.IGNORECASE)


def join_address(host: str, port: int) -> str:
    """The address of a host's port; a host may be an IPv6 address with or without brackets."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def full_address(text: str) -> str:
    """An address as gRPC needs it: the usual port is added where there is none, and brackets around an IPv6 address."""
    address = text.strip().rstrip("/")
    if _URI.match(address):
        return address
    if is_ipv6(address) or not re.search(r":\d+$", address):
        return join_address(address.removesuffix(":"), PORT)
    return address


def is_ipv6(host: str) -> bool:
    """Whether a host is an IPv6 address, which may have a zone."""
    try:
        return isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address)
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only programs of the same machine can reach a host or gRPC address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("unix")


_LARGEST_BYTES = 2**20


@dataclass(frozen=True)
class ServerTls:
    """PEM files of a server: its certificate chain and key; with `client_ca` its clients need a certificate, too."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """GRPC's credentials; raises ServingError where a file cannot be used."""
        pair = _read_pair(self.cert, self.key)
        if self.client_ca is None:
            return grpc.ssl_server_credentials([pair])
        authorities = _read_certificates(self.client_ca, "tls_client_ca")
        return grpc.ssl_server_credentials([pair], authorities, require_client_auth=True)


@dataclass(frozen=True)
class ClientTls:
    """PEM files of a client: authorities whose servers it trusts, and its own certificate with key, if any."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """GRPC's credentials; raises ServingError where a file cannot be used."""
        authorities = _read_certificates(self.ca, "tls_ca")
        if self.cert is None or self.key is None:
            return grpc.ssl_channel_credentials(authorities)
        key, chain = _read_pair(self.cert, self.key)
        return grpc.ssl_channel_credentials(authorities, key, chain)


def server_tls(cert: str | Path | None, key: str | Path | None, client_ca: str | Path | None) -> ServerTls | None:
    """The files of a server, None without any; raises ServingError where certificate or key is missing."""
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise _incomplete("tls_cert", "tls_key")
    return ServerTls(Path(cert), Path(key), None if client_ca is None else Path(client_ca))


def client_tls(ca: str | Path | None, cert: str | Path | None, key: str | Path | None) -> ClientTls | None:
    """The files of a client, None without any; raises ServingError where one is missing that another needs."""
    if ca is None and cert is None and key is None:
        return None
    if ca is None or (cert is None) != (key is None):
        raise _incomplete("tls_ca", "tls_cert", "tls_key")
    return ClientTls(Path(ca), None if cert is None else Path(cert), None if key is None else Path(key))


def _incomplete(*arguments: str) -> ServingError:
    return ServingError(
        "A file for TLS is missing.",
        expected="a certificate with its key, and for a client the authorities whose servers it trusts",
        remedy="Name the missing file.",
        arguments=arguments,
    )


def _read_pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """Key and certificate chain, as gRPC takes them."""
    chain, content = _read_certificates(cert, "tls_cert"), _content(key, "tls_key")
    try:
        public = serialization.load_pem_private_key(content, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(key, str(error), "a private key in PEM form, without a password", "tls_key") from error
    # The chain's first is the one that is used.
    own = x509.load_pem_x509_certificates(chain)[0]
    _refuse_outdated(cert, own, datetime.now(UTC), "tls_cert")
    if public != own.public_key():
        raise _unusable(key, "the key of another certificate", f"the key of {cert}", "tls_key")
    return content, chain


def _read_certificates(file: Path, argument: str) -> bytes:
    """A PEM file with at least one valid certificate: of a bundle of authorities some may have ended."""
    content, now = _content(file, argument), datetime.now(UTC)
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(file, str(error), "certificates in PEM form", argument) from error
    if not any(_is_valid(certificate, now) for certificate in certificates):
        _refuse_outdated(file, certificates[0], now, argument)
    return content


def _refuse_outdated(file: Path, certificate: x509.Certificate, now: datetime, argument: str) -> None:
    if not _is_valid(certificate, now):
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        raise _unusable(file, f"valid from {first} to {last}", f"one that is valid on {now:%Y-%m-%d}", argument)


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _content(file: Path, argument: str) -> bytes:
    try:
        if not file.is_file():
            raise FileNotFoundError("no such file")
        with file.open("rb") as stream:
            return stream.read(_LARGEST_BYTES)
    except OSError as error:
        raise _unusable(file, error.strerror or str(error), "a file that can be read", argument) from error


def _unusable(file: Path, found: str, expected: str, argument: str) -> ServingError:
    return ServingError(
        "The file for TLS cannot be used.",
        case=file,
        found=found,
        expected=expected,
        remedy="Name the right file, or renew it.",
        arguments=(argument,),
    )
