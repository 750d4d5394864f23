"""Files in object storage, by URL: copied to local files while they are read, as SimpleITK and GDCM need."""

import dataclasses
import errno
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ggn_tf.cases.tables.table import Case
from ggn_tf.errors import DatasetError, GgnError, VolumeError

# A path keeps only one of a URL's two slashes. A single letter is a drive of Windows.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(.*)", re.DOTALL)

# What one wrong URL raises; anything else, such as an outage or a full disk, concerns the other cases as well.
_OF_A_CASE = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
    NotImplementedError,
)
_NUMBERS_OF_A_CASE = (errno.ENAMETOOLONG, errno.ELOOP)


def url_of(path: Path) -> str | None:
    """The URL that a path was made from, for example gs://bucket/ct.nii.gz for `Path("gs://bucket/ct.nii.gz")`.

    Returns:
        None for a local path.
    """
    match = _URL.fullmatch(str(path))
    if match is None:
        return None
    return f"{match[1]}://{'/' if match[1] == 'file' else ''}{match[2]}"


def file_system_of(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        GgnError: fsspec, or its package for this kind of URL, is not installed.
    """
    try:
        import fsspec

        files, inside = fsspec.core.url_to_fs(url)
        return files, inside
    except (ImportError, ValueError) as error:
        raise GgnError(
            "The URL cannot be opened.",
            case=url,
            found=error,
            expected="fsspec, and its package for this kind of URL (gs: gcsfs, s3: s3fs, abfs: adlfs)",
            remedy='Install them: pip install "ggn-tf[beam]" gcsfs',
        ) from error


@contextmanager
def fetched(cases: Sequence[Case]) -> Iterator[list[Case | GgnError]]:
    """Replace the cases' URLs by the paths of local copies, one per URL, which are deleted on exit.

    Yields:
        In the order of `cases`: the case, or the error that its CT or mask does not exist or its URL cannot be opened.

    Raises:
        DatasetError: The storage does not respond or the disk is full, which is not an error of the case.
    """
    with tempfile.TemporaryDirectory(prefix="ggn-tf-") as folder:
        copies: dict[Path, Path] = {}
        yield [_fetch_case(case, copies, Path(folder)) for case in cases]


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """A local path, or a copy of a URL that is deleted on exit.

    Raises:
        FileNotFoundError: There is nothing at the URL.
    """
    with tempfile.TemporaryDirectory(prefix="ggn-tf-") as folder:
        yield _fetch(path, {}, Path(folder))


@contextmanager
def local_folder(path: Path) -> Iterator[Path]:
    """A folder to write: `path` itself, or for a URL a temporary one that is copied there on exit without an error.

    The dataset's description is copied last: a folder with it is complete.

    Raises:
        DatasetError: There is something at the URL.
    """
    url = url_of(path)
    if url is None:
        yield path
        return
    files, inside = file_system_of(url)
    if files.exists(inside) and files.ls(inside):
        raise DatasetError(
            "The dataset's URL exists.",
            case=url,
            expected="a URL that does not exist, or an empty folder",
            remedy="Name another URL.",
        )
    with tempfile.TemporaryDirectory(prefix="ggn-tf-") as parent:
        folder = Path(parent) / path.name
        yield folder
        written = [file for file in folder.rglob("*") if file.is_file()]
        for file in sorted(written, key=lambda file: file == folder / "dataset.json"):
            target = f"{inside}/{file.relative_to(folder).as_posix()}"
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(file), target)


def _fetch_case(case: Case, copies: dict[Path, Path], folder: Path) -> Case | GgnError:
    try:
        image = _fetch(case.image, copies, folder)
        mask = None if case.mask is None else _fetch(case.mask, copies, folder)
    except GgnError as error:
        error.case = f"{case.case_id} ({error.case})"
        return error
    except Exception as error:
        # Each kind of storage raises its own types when it does not respond.
        if not _is_of_case(error):
            reason = error.__cause__ or error
            raise DatasetError(
                "The CT or the mask could not be copied from its URL.",
                case=case.case_id,
                found=f"{type(reason).__name__}: {reason}",
                expected="storage that responds and accepts the login, and space for copies in the temporary folder",
                remedy="Repeat the command when the storage can be reached; the case table may be right.",
            ) from error
        missing = isinstance(error, FileNotFoundError)
        return VolumeError(
            "The CT or the mask does not exist." if missing else "The CT or the mask cannot be read from its URL.",
            case=case.case_id,
            found=error if missing else f"{type(error).__name__}: {error}",
            expected="a file, or a folder of DICOM slices, at the URL",
            remedy="Correct the case table.",
        )
    return dataclasses.replace(case, image=image, mask=mask)


def _is_of_case(error: Exception) -> bool:
    cause = error.__cause__
    # fsspec calls it a missing file, too, when a web server does not respond.
    if isinstance(error, FileNotFoundError) and (isinstance(cause, OSError) or getattr(cause, "status", 0) >= 500):
        return isinstance(cause, _OF_A_CASE)
    return isinstance(error, _OF_A_CASE) or getattr(error, "errno", None) in _NUMBERS_OF_A_CASE


def _fetch(path: Path, copies: dict[Path, Path], folder: Path) -> Path:
    """A local copy with the same file name, which errors show and readers take the format from."""
    url = url_of(path)
    if url is None:
        return path
    if path not in copies:
        files, inside = file_system_of(url)
        # Unlike `exists`, it does not take an outage for a missing file.
        files.info(inside)
        copy = folder / str(len(copies)) / path.name
        copy.parent.mkdir()
        if files.isdir(inside):
            files.get(inside.rstrip("/") + "/", f"{copy}/", recursive=True)
        else:
            files.get_file(inside, str(copy))
        copies[path] = copy
    return copies[path]
