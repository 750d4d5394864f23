import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ggn_tf.cases.remote import fetched
from ggn_tf.cases.tables.table import Case
from ggn_tf.errors import DatasetError, GgnError

CASE = Case("a", "p1", Path("gs://bucket/ct.nii"), None, "AIS", None, None, {})


class StorageError(Exception):
    """As botocore's and gcsfs's, which are no OSError."""


class WebError(Exception):
    """As aiohttp's answer of a server."""

    def __init__(self, status: int) -> None:
        self.status = status


def missing_because(cause: Exception) -> FileNotFoundError:
    """As fsspec's over HTTP."""
    error = FileNotFoundError("http://host/ct.nii")
    error.__cause__ = cause
    return error


def storage(monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
    """Storage of which one function fails."""

    def fail(*arguments: object) -> None:
        raise error

    functions = {"info": lambda path: {}, "isdir": lambda path: False, "get_file": None, method: fail}
    monkeypatch.setattr("ggn_tf.cases.remote.file_system_of", lambda url: (SimpleNamespace(**functions), url))


@pytest.mark.parametrize("method", ["info", "get_file"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError("Forbidden"),
        ConnectionRefusedError(),
        TimeoutError(),
        StorageError("no connection"),
        missing_because(ConnectionResetError()),
        missing_because(WebError(503)),
    ],
)
def test_an_outage_or_a_full_disk_rejects_no_case(monkeypatch: pytest.MonkeyPatch, method: str, error: Exception):
    storage(monkeypatch, method, error)
    with pytest.raises(DatasetError, match="could not be copied") as caught, fetched([CASE]):
        pass
    reason = error.__cause__ or error
    assert caught.value.case == "a" and caught.value.found == f"{type(reason).__name__}: {reason}"


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("ct.nii"),
        missing_because(WebError(404)),
        missing_because(FileNotFoundError("ct.nii")),
        PermissionError("ct.nii"),
        ValueError("bucket name"),
        NotImplementedError(),
        OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)),
    ],
)
def test_a_wrong_url_rejects_its_case(monkeypatch: pytest.MonkeyPatch, error: Exception):
    storage(monkeypatch, "info", error)
    with fetched([CASE]) as (rejected,):
        assert isinstance(rejected, GgnError) and rejected.remedy == "Correct the case table."
