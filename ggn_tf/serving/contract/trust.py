"""Which versions are loaded: a model is a program, and runs with the rights of the process that loads it."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ggn_tf.errors import ExportError
from ggn_tf.serving.contract.graph_operations import check_operations
from ggn_tf.serving.contract.signing import check_signature
from ggn_tf.serving.contract.version_folders import check_checksums, check_regular, has_checksums


@dataclass(frozen=True)
class Trust:
    """What a version needs in order to be loaded; a damaged one is never loaded.

    Attributes:
        any_program: Also load versions without checksums, and graphs with operations that our exports do not have, such
            as those that read files.
        key: Load only versions whose checksums are signed by the owner of this key; None for all.
    """

    any_program: bool = False
    key: Ed25519PublicKey | None = None

    def check(self, version_folder: Path) -> None:
        """Raise an ExportError if the version must not be loaded."""
        check_regular(version_folder)
        if self.key is not None:
            check_signature(version_folder, self.key)
        if has_checksums(version_folder):
            check_checksums(version_folder)
        elif not self.any_program:
            raise ExportError(
                "The version has no checksums.",
                case=version_folder,
                found="no SHA256SUMS: another program wrote it, or the list was lost",
                expected="the checksums that ggn-tf export writes",
                remedy="Copy the version again. A model is a program: load another program's only if you trust it.",
                arguments=("trust",),
            )
        if not self.any_program:
            check_operations(version_folder)
