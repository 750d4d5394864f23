"""The folder that a command writes its output to: whole or not at all, and over nothing but an earlier output."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ggn_tf.errors import GgnError
from ggn_tf.files import refuse_read_only, replaced_folder


@dataclass(frozen=True)
class OutputFolder:
    """What a command writes.

    Attributes:
        what: Its name in errors.
        record: The file without which a folder is not an earlier output.
        folders: Those of the folders whose files are known, with the pattern of the files' names.
    """

    what: str
    record: str
    names: frozenset[str]
    folders: Mapping[str, re.Pattern[str]] = field(default_factory=dict)

    def refuse_foreign(self, folder: Path) -> None:
        """Raise GgnError if a folder is a file, or contains anything but an earlier output, before any work is done."""
        refuse_read_only(folder.absolute().parent)
        if not folder.exists():
            return
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"}
        foreign = found - self.names - {self.record}
        for name, pattern in self.folders.items():
            files = (folder / name).iterdir() if (folder / name).is_dir() else ()
            foreign |= {f"{name}/{path.name}" for path in files if not pattern.fullmatch(path.name)}
        if foreign or (found and self.record not in found):
            raise self._not_writable(folder, ", ".join(sorted(foreign or found)[:5]))

    @contextmanager
    def replaced(self, folder: Path, shared: bool) -> Iterator[Path]:
        """Yield a new folder, which replaces an earlier output at the end; raises GgnError where it cannot."""
        self.refuse_foreign(folder)
        try:
            with replaced_folder(folder, private=not shared) as fresh:
                yield fresh
                # Something may have been put there since.
                self.refuse_foreign(folder)
        except (OSError, RuntimeError) as error:
            raise self._not_writable(folder, error) from error

    def _not_writable(self, folder: Path, found: object) -> GgnError:
        return GgnError(
            f"The {self.what} cannot be written.",
            case=folder,
            found=found,
            expected=f"a folder that does not exist, is empty, or contains an earlier {self.what}",
            remedy="Name another folder.",
            arguments=("output",),
        )
