"""Whether paths lead to one file: through links, other spellings of the path, or as copies; or to none."""

import filecmp
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ggn_tf.cases.spelling import folded

_BLOCK_BYTES = 4096

Identity = tuple[int, int] | str


def identity_of(path: Path) -> Identity:
    """A value that is equal for all paths of one file or folder; the path itself where there is none, as for a URL."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return os.path.normpath(path)
    return status.st_dev, status.st_ino


def is_folder(path: Path) -> bool:
    """Whether there is a folder; also for paths that are none, such as those that are too long."""
    try:
        return path.is_dir()
    except OSError:
        return False


def missing_text(path: Path) -> str:
    """What is at a path at which there is no file, for an error; without other names, which may be patients'."""
    if "\\" in str(path):
        return "no such file or folder; a backslash does not separate folders here"
    try:
        near = any(folded(other.name) == folded(path.name) for other in path.parent.iterdir())
    except (OSError, ValueError):
        near = False
    other = "; its folder contains one whose name differs in upper and lower case, space or Unicode form"
    return "no such file or folder" + (other if near else "")


def image_identities(paths: Iterable[Path]) -> dict[Path, Identity]:
    """The identities of several files; copies of one file have the same.

    Only files of equal size are compared.
    """
    identities = {path: identity_of(path) for path in dict.fromkeys(paths)}
    same_size: defaultdict[int, dict[Identity, Path]] = defaultdict(dict)
    for path, identity in identities.items():
        if isinstance(identity, tuple) and path.is_file():
            same_size[path.stat().st_size].setdefault(identity, path)
    first: dict[Identity, Identity] = {}
    for size, files in same_size.items():
        if len(files) > 1:
            first.update(_copies(files, size))
    return {path: first.get(identity, identity) for path, identity in identities.items()}


def _copies(files: dict[Identity, Path], size: int) -> dict[Identity, Identity]:
    """The identity of the first copy by that of each other one."""
    alike: defaultdict[bytes, list[tuple[Identity, Path]]] = defaultdict(list)
    copies = {}
    for identity, path in files.items():
        try:
            group = alike[_sample(path, size)]
            original = next((known for known, other in group if filecmp.cmp(path, other, shallow=False)), None)
        except OSError:
            continue
        if original is None:
            group.append((identity, path))
        else:
            copies[identity] = original
    return copies


def _sample(path: Path, size: int) -> bytes:
    """Parts of a file that differ for two CTs of one size."""
    with path.open("rb") as file:
        parts = []
        for start in (0, size // 2, max(size - _BLOCK_BYTES, 0)):
            file.seek(start)
            parts.append(file.read(_BLOCK_BYTES))
    return b"".join(parts)
