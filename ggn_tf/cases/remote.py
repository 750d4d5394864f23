"""Files in object storage, by URL: copied here for as long as they are read, since SimpleITK and GDCM read files."""

import dataclasses
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ggn_tf.cases.table import Case
from ggn_tf.errors import DatasetError, GgnError, VolumeError

# A path keeps one slash of a URL's two. One letter is a drive of Windows.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(.*)", re.DOTALL)


def url_of(path: Path) -> str | None:
    """The URL that a path was made of, for example gs://bucket/ct.nii.gz of `Path("gs://bucket/ct.nii.gz")`.

    Returns:
        None for a path of this machine.
    """
    match = _URL.fullmatch(str(path))
    if match is None:
        return None
    return f"{match[1]}://{'/' if match[1] == 'file' else ''}{match[2]}"


def file_system_of(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        GgnError: fsspec, or what it needs for this kind of URL, is not installed.
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
    """Give the cases with the paths of copies for their URLs, each URL copied once; the copies are deleted on leaving.

    Yields:
        In the order of `cases`: the case, or the error that its CT or mask does not exist.

    Raises:
        OSError: The storage does not answer; that is not the case's fault.
    """
    with tempfile.TemporaryDirectory(prefix="ggn-tf-") as folder:
        copies: dict[Path, Path] = {}
        yield [_fetch_case(case, copies, Path(folder)) for case in cases]


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """Give `path`, or of a URL a copy that is deleted on leaving.

    Raises:
        FileNotFoundError: There is nothing at the URL.
    """
    with tempfile.TemporaryDirectory(prefix="ggn-tf-") as folder:
        yield _fetch(path, {}, Path(folder))


@contextmanager
def local_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write, `path` itself, or for a URL a temporary one; on leaving without an error it is copied.

    A dataset is one once its description is there, which is copied last.

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
            "The dataset would be written over something that exists.",
            case=url,
            expected="a URL with nothing there",
            remedy="Name another with -o.",
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
    except FileNotFoundError as error:
        return VolumeError(
            "The CT or the mask does not exist.",
            case=case.case_id,
            found=error,
            expected="a file, or a folder of DICOM slices, at the URL",
            remedy="Correct the case table.",
        )
    return dataclasses.replace(case, image=image, mask=mask)


def _fetch(path: Path, copies: dict[Path, Path], folder: Path) -> Path:
    """A copy under its own name, by which errors know it and readers tell its format."""
    url = url_of(path)
    if url is None:
        return path
    if path not in copies:
        files, inside = file_system_of(url)
        if not files.exists(inside):
            raise FileNotFoundError(url)
        copy = folder / str(len(copies)) / path.name
        copy.parent.mkdir()
        if files.isdir(inside):
            files.get(inside.rstrip("/") + "/", f"{copy}/", recursive=True)
        else:
            files.get_file(inside, str(copy))
        copies[path] = copy
    return copies[path]
