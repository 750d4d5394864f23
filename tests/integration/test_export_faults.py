"""Exports that are killed, or run out of disk space, beside a server of the previous version."""

import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.errors import ExportError
from ggn_tf.serving.client.client import PredictionClient
from ggn_tf.serving.contract.version_folders import list_versions
from ggn_tf.serving.export.golden_requests import sample_patches
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from ggn_tf.tasks import THREE_CLASSES
from tests.support.processes import Process
from tests.support.small_disk import small_disk
from tests.support.small_model import build_small_model
from tests.support.tiny_protocol import TINY

PATCHES = sample_patches(TINY.patch, 1, seed=0)


def write_version(folder: Path) -> None:
    """Write the next version of a model folder."""
    export_model(build_small_model(), THREE_CLASSES, TINY, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_export: Path) -> Path:
    """A model folder with version 1."""
    return Path(shutil.copytree(small_export, tmp_path_factory.mktemp("models") / "ggn"))


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[PredictionClient]:
    """A client of a server that checks for new versions all the time."""
    with (
        ModelServer(folder, ServerOptions(port=0, poll_wait_seconds=0.02)) as server,
        PredictionClient(f"127.0.0.1:{server.port}") as client,
    ):
        yield client


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes, as on a disk with so little room."""
    _, hard = former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def only_version_1(folder: Path) -> bool:
    # The remains of the killed export have a name that is not a number.
    return set(list_versions(folder)) == {1}


@pytest.mark.nightly
def test_an_export_killed_for_good_leaves_the_served_version(folder: Path, client: PredictionClient):
    expected = client.predict(PATCHES)
    process = Process(write_version, folder)
    while process.poll() is None and not list(
        folder.glob(".ggn-tf-temporary.2.*/assets.extra/tf_serving_warmup_requests")
    ):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the export ended before it was killed: kill earlier"
    left = list(folder.glob(".ggn-tf-temporary.2.*"))
    assert left and only_version_1(folder)
    time.sleep(0.1)  # some polls
    prediction = client.predict(PATCHES)
    assert prediction.model_version == 1
    np.testing.assert_array_equal(prediction.probabilities, expected.probabilities)
    for path in left:
        shutil.rmtree(path)


@pytest.mark.parametrize(("size", "file"), [(100_000, "saved_model.pb"), (1_000_000, "golden_predictions")])
def test_a_disk_without_room_leaves_nothing_but_the_served_version(
    size: int, file: str, folder: Path, client: PredictionClient
):
    with files_at_most(size), pytest.raises(ExportError) as caught:
        write_version(folder)
    assert file in caught.value.found and caught.value.found.endswith("; File too large")
    assert "{{" not in caught.value.found
    assert [path.name for path in folder.iterdir()] == ["1"]
    assert client.predict(PATCHES).model_version == 1


def test_a_full_disk_is_reported_with_the_systems_message(tmp_path: Path):
    with small_disk(tmp_path / "disk", 2**20) as disk:
        with pytest.raises(ExportError, match="No space left on device"):
            write_version(disk / "ggn")
        assert not (disk / "ggn").exists()
