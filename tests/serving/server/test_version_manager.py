import os
import shutil
import sys
import threading
import time
import weakref
from pathlib import Path
from unittest.mock import Mock

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ggn_tf.serving.contract.messages import read_golden
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.contract.version_folders import next_version, write_checksums
from ggn_tf.serving.runtime.batching import BatchingParameters
from ggn_tf.serving.runtime.predict_request import predict, warm_up
from ggn_tf.serving.runtime.servable import StatusError, open_servable
from ggn_tf.serving.server.version_manager import State, VersionManager


class Doubling(tf.Module):
    """As small as a model can be: these tests load it some fifty times."""

    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="hu")])
    def serve(self, hu):
        return {"y": self.factor * hu}


def request_of(values):
    request = predict_pb2.PredictRequest()
    request.inputs["hu"].CopyFrom(tf.make_tensor_proto(values))
    return request


def write_warmup(folder, values):
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request_of(values)))
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    write_checksums(folder)


@pytest.fixture(scope="module")
def doubling(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "ggn"
    tf.saved_model.save(module := Doubling(), str(folder / "1"), signatures={"serving_default": module.serve})
    (folder / "1" / "assets.extra").mkdir()
    for name in ("contract.json", "labels.txt"):
        (folder / "1" / "assets.extra" / name).write_text("{}")
    write_warmup(folder / "1", [[1.0, 2.0]])
    return folder


@pytest.fixture
def folder(doubling, tmp_path) -> Path:
    """A model folder that may be changed, with version 1."""
    return Path(shutil.copytree(doubling, tmp_path / "ggn"))


@pytest.fixture(scope="module")
def serving(doubling, tmp_path_factory):
    """A manager that serves version 1 whatever is added, and its folder."""
    folder = Path(shutil.copytree(doubling, tmp_path_factory.mktemp("serving") / "ggn"))
    opened = VersionManager("ggn", folder)
    opened.poll()
    yield opened, folder
    opened.close()


@pytest.fixture
def versions(folder):
    opened = VersionManager("ggn", folder)
    opened.poll()
    yield opened
    opened.close()


def add(folder, version, name=None):
    shutil.copytree(folder / "1", folder.parent / "new")
    (folder.parent / "new").rename(folder / (name or str(version)))


def latest(versions):
    with versions.lease(None) as servable:
        return servable.version


def states(versions):
    return {version: state.state for version, state in versions.states().items()}


def test_the_newest_version_serves(versions, folder):
    # What a killed export leaves is no version.
    add(folder, 2, name=".ggn-tf-temporary.2.abcdefgh")
    versions.poll()
    assert latest(versions) == 1
    assert states(versions) == {1: State.AVAILABLE}


def test_a_newer_version_takes_over_and_the_old_one_ends(versions, folder):
    add(folder, 2)
    versions.poll()
    assert latest(versions) == 2
    assert list(states(versions).items()) == [(2, State.AVAILABLE), (1, State.END)]


def test_versions_are_compared_as_numbers(versions, folder):
    add(folder, 12, name="00000012")
    add(folder, 9)
    versions.poll()
    assert latest(versions) == 12


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
@pytest.mark.parametrize(
    ("own", "expected", "error"), [(0, 10, None), (15, 15, None), (0, 10, PermissionError("Operation not permitted"))]
)
def test_a_further_version_is_warmed_up_at_low_priority_where_that_is_allowed(
    own, expected, error, versions, folder, monkeypatch
):
    set_priority = Mock(side_effect=error)
    monkeypatch.setattr(os, "getpriority", lambda which, thread: own)
    monkeypatch.setattr(os, "setpriority", set_priority)
    add(folder, 2)
    versions.poll()
    assert latest(versions) == 2
    ((which, thread, niceness),) = [call.args for call in set_priority.call_args_list]
    assert (which, niceness) == (os.PRIO_PROCESS, expected) and thread != threading.get_native_id()


def test_a_version_in_use_is_unloaded_after_its_last_request(versions, folder):
    add(folder, 2)
    poller = threading.Thread(target=versions.poll)
    with versions.lease(None) as servable:
        poller.start()
        ends = time.monotonic() + 60
        while states(versions)[1] == State.AVAILABLE and time.monotonic() < ends:
            time.sleep(0.01)
        assert states(versions) == {2: State.AVAILABLE, 1: State.UNLOADING}
        assert latest(versions) == 2
        assert predict(servable, request_of([[1.0, 2.0]])).model_spec.version.value == 1
    poller.join(60)
    assert states(versions)[1] == State.END


def change_a_file(folder):
    (folder / "assets.extra" / "labels.txt").write_text("one\ntwo\n")


def lose_a_file(folder):
    (folder / "variables" / "variables.index").unlink()


def add_a_file(folder):
    (folder / "assets.extra" / "more.txt").write_text("more")


def add_many_files(folder):
    for number in range(10_001):
        (folder / "assets" / str(number)).touch()


def break_checksums(folder):
    (folder / "assets.extra" / "SHA256SUMS").write_text("no list")


def empty_checksums(folder):
    (folder / "assets.extra" / "SHA256SUMS").write_text("")


def cut_checksums(folder):
    """At a line's end, as a copy may be."""
    listed = folder / "assets.extra" / "SHA256SUMS"
    listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:-2]))


# These exports were written with the damage: the checksums are those of the damaged file.


def break_graph(folder):
    (folder / "saved_model.pb").write_bytes(b"no model")
    write_checksums(folder)


def break_warmup_file(folder):
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no TFRecord " * 8)
    write_checksums(folder)


def break_warmup_request(folder):
    write_warmup(folder, [1.0])


def truncate_graph_without_checksums(folder):
    """As a copy of another program's SavedModel onto a full disk."""
    (folder / "assets.extra" / "SHA256SUMS").unlink()
    graph = folder / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (change_a_file, "assets.extra/labels.txt has changed"),
        (lose_a_file, "variables/variables.index is missing"),
        (add_a_file, "assets.extra/more.txt is not listed"),
        (break_checksums, "SHA256SUMS, line 1"),
        (empty_checksums, "assets.extra/contract.json is not listed"),
        (cut_checksums, "variables/variables.data-00000-of-00001 is not listed"),
        (break_graph, "The version cannot be loaded."),
        (truncate_graph_without_checksums, "The version has no checksums."),
        (break_warmup_file, "tf_serving_warmup_requests"),
        (break_warmup_request, "received [1]"),
        (add_many_files, "more than 10000 files"),
    ],
)
def test_a_version_that_does_not_load_leaves_the_old_one_serving(damage, named, serving, tmp_path):
    versions, folder = serving
    shutil.copytree(folder / "1", tmp_path / "new")
    damage(tmp_path / "new")
    number = next_version(folder)
    (tmp_path / "new").rename(folder / str(number))
    versions.poll()
    versions.poll()
    assert latest(versions) == 1
    found = states(versions)
    assert (found[number], found[1]) == (State.END, State.AVAILABLE)
    assert named in versions.states()[number].error


def test_a_repaired_version_is_tried_again_and_an_unchanged_one_is_not(versions, folder, caplog):
    (folder / "2").mkdir()
    versions.poll()
    versions.poll()
    assert caplog.text.count("cannot be loaded:") == 1
    (folder / "2").rmdir()
    add(folder, 2)
    versions.poll()
    versions.poll()
    assert latest(versions) == 2


def test_a_repair_that_keeps_size_and_time_is_seen(versions, folder):
    """As `cp -a` and `rsync -t` copy."""
    shutil.copytree(folder / "1", folder / ".2")
    graph = folder / ".2" / "saved_model.pb"
    before, content = graph.stat(), bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 0xFF
    graph.write_bytes(content)
    os.utime(graph, ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / ".2").rename(folder / "2")
    versions.poll()
    assert states(versions) == {2: State.END, 1: State.AVAILABLE}
    shutil.copy2(folder / "1" / "saved_model.pb", folder / "2")
    versions.poll()
    versions.poll()
    assert latest(versions) == 2


def copy_in_place(folder, *names):
    """File by file: neither the directory's own time nor its number changes."""
    for name in names:
        (folder / "2" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "1" / name, folder / "2" / name)


def test_a_version_that_failed_half_copied_is_tried_again_once_it_stays_the_same(versions, folder, caplog):
    *names, last = sorted(file.relative_to(folder / "1") for file in (folder / "1").rglob("*") if file.is_file())
    copy_in_place(folder, *(name for name in names if name.parts[0] == "assets.extra"))
    versions.poll()
    assert states(versions) == {2: State.END, 1: State.AVAILABLE}
    for name in names:
        copy_in_place(folder, name)
        versions.poll()
    copy_in_place(folder, last)
    versions.poll()
    assert latest(versions) == 1
    assert caplog.text.count("cannot be loaded:") == 1
    versions.poll()
    assert latest(versions) == 2


def test_a_copy_whose_checksums_come_last_is_not_loaded_without_its_warm_up(versions, folder):
    names = sorted(file.relative_to(folder / "1") for file in (folder / "1").rglob("*") if file.is_file())
    assets = [name for name in names if name.parts[0] == "assets.extra"]
    copy_in_place(folder, *(name for name in names if name not in assets))
    versions.poll()
    assert states(versions) == {1: State.AVAILABLE}
    copy_in_place(folder, *assets)
    versions.poll()
    assert latest(versions) == 2


def test_a_version_without_checksums_is_refused(versions, folder):
    add(folder, 2, name=".2")
    (folder / ".2" / "assets.extra" / "SHA256SUMS").unlink()
    (folder / ".2").rename(folder / "2")
    versions.poll()
    versions.poll()
    assert states(versions) == {2: State.END, 1: State.AVAILABLE}


def test_another_programs_version_without_checksums_is_loaded_at_the_second_check(folder):
    """If it is trusted."""
    versions = VersionManager("ggn", folder, trust=Trust(any_program=True))
    versions.poll()
    add(folder, 2, name=".2")
    (folder / ".2" / "assets.extra" / "SHA256SUMS").unlink()
    (folder / ".2").rename(folder / "2")
    versions.poll()
    assert latest(versions) == 1
    versions.poll()
    assert latest(versions) == 2


@pytest.mark.parametrize("batching", [None, BatchingParameters(24)])
def test_an_unloaded_versions_graph_is_gone(batching, exported, tmp_path):
    folder = Path(shutil.copytree(exported, tmp_path / "ggn"))
    versions = VersionManager("ggn", folder, batching=batching)
    versions.poll()
    with versions.lease(1) as servable:
        predict(servable, read_golden(folder / "1")[0][0])
        graph = weakref.ref(servable._session._session.graph)
    del servable
    add(folder, 2)
    versions.poll()
    assert states(versions) == {2: State.AVAILABLE, 1: State.END}
    assert graph() is None
    versions.close()


def test_after_a_rollback_the_version_before_serves(versions, folder):
    add(folder, 2)
    versions.poll()
    shutil.rmtree(folder / "2")
    versions.poll()
    assert latest(versions) == 1


def test_a_folder_that_vanishes_changes_nothing(versions, folder, caplog):
    folder.rename(folder.with_name("moved"))
    versions.poll()
    versions.poll()
    assert latest(versions) == 1
    assert len(caplog.records) == 1


def test_an_empty_folder_serves_nothing_and_says_so(folder):
    reported: list[bool] = []
    versions = VersionManager("ggn", folder, reported.append)
    versions.poll()
    assert reported[-1] is True
    shutil.rmtree(folder / "1")
    versions.poll()
    assert reported[-1] is False
    with pytest.raises(StatusError) as caught:
        latest(versions)
    assert caught.value.code == grpc.StatusCode.NOT_FOUND


def test_warm_up_replays_both_signatures_at_the_sizes_of_batches(exported, monkeypatch):
    servable = open_servable(exported / "1", "ggn", 1)
    rows, run = [], servable.run
    monkeypatch.setattr(
        servable, "run", lambda feeds, fetches: rows.append(len(feeds[min(feeds)])) or run(feeds, fetches)
    )
    assert warm_up(servable, exported / "1") == 6 + 2
    # Requests of 16 and 24 patches run in parts of eight.
    assert rows == [1, 2, 4, 8, 8, 8, 1, 8]
    servable.close()


def test_a_version_without_warm_up_requests_loads(versions, folder):
    add(folder, 2, name=".2-hidden")
    (folder / ".2-hidden" / "assets.extra" / "tf_serving_warmup_requests").unlink()
    write_checksums(folder / ".2-hidden")
    (folder / ".2-hidden").rename(folder / "2")
    versions.poll()
    assert latest(versions) == 2
