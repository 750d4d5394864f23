"""Signatures of versions that travel: Ed25519 (RFC 8032) over the list of checksums.

A checksum beside the data detects accidents; a signature also detects people. OpenSSL reads and writes the same:
`openssl pkeyutl -verify -pubin -inkey KEY -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig`.
"""

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ggn_tf.errors import ExportError
from ggn_tf.serving.contract.version_folders import CHECKSUMS_FILE, SIGNATURE_FILE, read_record
from ggn_tf.serving.contract.wire import ASSETS_EXTRA

_LARGEST_KEY_BYTES = 2**16


def sign(version_folder: Path, key: Ed25519PrivateKey) -> None:
    """Write the signature of a version's checksums beside them."""
    signature = key.sign(read_record(version_folder, CHECKSUMS_FILE))
    (version_folder / ASSETS_EXTRA / SIGNATURE_FILE).write_bytes(signature)


def check_signature(version_folder: Path, key: Ed25519PublicKey) -> None:
    """Check that the owner of the key has signed a version's checksums; raises ExportError if not."""
    try:
        key.verify(read_record(version_folder, SIGNATURE_FILE), read_record(version_folder, CHECKSUMS_FILE))
    except (OSError, InvalidSignature) as error:
        raise ExportError(
            "The version is not signed with the expected key.",
            case=version_folder,
            found="no checksums or no signature" if isinstance(error, OSError) else "another signature",
            expected=f"{ASSETS_EXTRA}/{SIGNATURE_FILE} by the owner of the key",
            remedy="Ask the sender for a signed version, or for the public key that belongs to it.",
            arguments=("verify",),
        ) from error


def read_private_key(file: Path) -> Ed25519PrivateKey:
    """Read the key to sign with, a PEM file (PKCS 8); raises ExportError where it is another or cannot be read."""
    try:
        key = serialization.load_pem_private_key(_content(file), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_key(file, error, "private", "sign") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad_key(file, type(key).__name__, "private", "sign")
    return key


def read_public_key(file: Path) -> Ed25519PublicKey:
    """Read the key to verify with, a PEM file; raises ExportError where it is another or cannot be read."""
    try:
        key = serialization.load_pem_public_key(_content(file))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _bad_key(file, error, "public", "verify") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _bad_key(file, type(key).__name__, "public", "verify")
    return key


def _content(file: Path) -> bytes:
    if not file.is_file():
        raise FileNotFoundError("no such file")
    with file.open("rb") as stream:
        return stream.read(_LARGEST_KEY_BYTES)


def _bad_key(file: Path, found: object, kind: str, argument: str) -> ExportError:
    return ExportError(
        f"The {kind} key cannot be used.",
        case=file,
        found=found,
        expected=f"a PEM file with an Ed25519 {kind} key, without a password",
        remedy="Make a pair with openssl genpkey -algorithm ed25519 -out KEY and openssl pkey -pubout -in KEY.",
        arguments=(argument,),
    )
