"""Faults of networks and disks: the server keeps running, reports the right status, and leaks nothing."""

import shutil
import socket
import struct
import threading
import time
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ggn_tf.models.systems import build_cascade
from ggn_tf.serving.contract.messages import make_request
from ggn_tf.serving.export.golden_requests import sample_patches
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from ggn_tf.serving.server.version_manager import State
from ggn_tf.tasks import THREE_CLASSES
from scripts.serving_load import ServerProcess, add_version, load
from tests.support.http2 import GREETING, PREDICT, frame, header
from tests.support.small_disk import small_disk

DEADLINE_S = 60
"""Longest wait; a test that passes stays far below it."""


@pytest.fixture
def folder(exported, tmp_path):
    """A model folder that may be changed, with version 1."""
    shutil.copytree(exported, tmp_path / "ggn")
    return tmp_path / "ggn"


@pytest.fixture(scope="module")
def process(exported):
    with ServerProcess(exported, "--running=1", "--waiting=8") as server:
        load(server.target, 2, 1.0, np.zeros((1, 32, 32, 32, 1), np.float32), (1,))
        yield server


@pytest.fixture
def leakless(process):
    """The server does not keep more threads, files or memory."""
    before = process.threads, process.files, process.resident_mib
    yield
    _until(lambda: process.threads <= before[0] + 2 and process.files <= before[1] + 2)
    assert process.alive
    assert process.threads <= before[0] + 2
    assert process.files <= before[1] + 2
    assert process.resident_mib < before[2] + 100
    assert responds(process.target)


def _until(true):
    ends = time.monotonic() + DEADLINE_S
    while not true() and time.monotonic() < ends:
        time.sleep(0.05)


def responds(target, patches=1):
    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = make_request(np.full((patches, 32, 32, 32, 1), -600, np.float32), "ggn")
        return stub.Predict(request, timeout=DEADLINE_S).model_spec.version.value == 1


numbers = st.integers(-(2**63), 2**63 - 1)
texts = st.sampled_from(["", "ggn", "other", "serving_default", "roi", "hu", "mask"]) | st.text(max_size=8)
shapes = st.builds(
    lambda sizes, unknown: {"dim": [{"size": str(size)} for size in sizes], "unknown_rank": unknown},
    st.sampled_from([[1, 32, 32, 32, 1], [2, 32, 32, 32, 1], [1, 3]])
    | st.lists(st.integers(-2, 40) | numbers, max_size=6),
    st.booleans(),
)
specs = st.fixed_dictionaries(
    {},
    optional={"name": st.just("ggn") | texts, "signature_name": texts},
).flatmap(
    lambda spec: st.one_of(
        st.just(spec),
        numbers.map(lambda version: {**spec, "version": str(version)}),
        texts.map(lambda label: {**spec, "version_label": label}),
    )
)
values = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.integers(0, 25) | st.integers(100, 125) | st.integers(-1, 2**31 - 1),
        "tensor_shape": shapes,
        "tensor_content": st.sampled_from(["", "AAAA", "AAAAAAAA"]),
        "float_val": st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=3),
        "string_val": st.lists(st.sampled_from(["", "AAAA"]), max_size=3),
        "int64_val": st.lists(numbers.map(str), max_size=3),
        "half_val": st.lists(st.integers(0, 2**16), max_size=3),
        "version_number": st.integers(-5, 5),
    },
)
inputs = st.dictionaries(st.sampled_from(["hu", "spacing_mm", "center_index"]) | texts, values, max_size=4)
messages = st.one_of(
    st.builds(
        lambda spec, given, wanted: ("Predict", {"model_spec": spec, "inputs": given, "output_filter": wanted}),
        specs,
        inputs,
        st.lists(texts, max_size=3),
    ),
    st.builds(
        lambda spec, fields: ("GetModelMetadata", {"model_spec": spec, "metadata_field": fields}),
        specs,
        st.lists(st.just("signature_def") | texts, max_size=2),
    ),
    specs.map(lambda spec: ("GetModelStatus", {"model_spec": spec})),
    st.binary(max_size=64).map(lambda raw: ("bytes", raw)),
)
KINDS = {
    "Predict": predict_pb2.PredictRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
}
ALLOWED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "INTERNAL"}


@pytest.mark.parametrize("examples", [200, pytest.param(2500, marks=pytest.mark.nightly)])
def test_no_request_harms_the_server(examples, process, leakless, record_property):
    """Requests of the protocol's messages and of arbitrary bytes."""
    codes: dict[str, int] = {}
    longest_s, before_mib, peak_mib = 0.0, process.resident_mib, 0.0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(messages)
    def send(message):
        nonlocal longest_s, peak_mib
        method, content = message
        start = time.monotonic()
        # Each by a connection of its own: those of one that sends many that cannot be served are delayed.
        with grpc.insecure_channel(process.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            predicting = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            models = model_service_pb2_grpc.ModelServiceStub(channel)
            try:
                if method == "bytes":
                    channel.unary_unary(PREDICT)(content, timeout=DEADLINE_S)
                else:
                    request = json_format.ParseDict(content, KINDS[method]())
                    service = models if method == "GetModelStatus" else predicting
                    getattr(service, method)(request, timeout=DEADLINE_S)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
                assert len(error.details().encode()) <= 1024
        codes[code] = codes.get(code, 0) + 1
        assert code in ALLOWED, message
        longest_s = max(longest_s, time.monotonic() - start)
        peak_mib = max(peak_mib, process.resident_mib)

    send()
    record_property("longest_s", round(longest_s, 2))
    record_property("peak_mib", round(peak_mib))
    print(f"{sum(codes.values())} requests: longest {longest_s:.2f} s, memory {before_mib:.0f} to {peak_mib:.0f} MiB")
    assert sum(codes.values()) >= examples
    assert longest_s < 5
    assert peak_mib < before_mib + 300
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= set(codes)


def test_bytes_that_are_no_message_are_an_internal_error(process):
    with grpc.insecure_channel(process.target) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(PREDICT)(b"\xff\xff\xff", timeout=DEADLINE_S)
    assert caught.value.code() == grpc.StatusCode.INTERNAL


def partial_request(message_bytes, sent_bytes):
    """HTTP/2 up to the middle of a gRPC message."""
    data = b"\0" + struct.pack(">I", message_bytes) + bytes(sent_bytes)
    return GREETING + header(1) + frame(0, 0, 1, data)


def connect(target):
    host, port = target.split(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE_S)


def test_clients_that_send_slowly_block_no_others(process, leakless):
    """More of them than the server has slots and threads; their connections stay open meanwhile."""
    with ExitStack() as stack:
        for _ in range(150):
            connection = stack.enter_context(connect(process.target))
            connection.sendall(partial_request(10**6, 10))
        start = time.monotonic()
        assert responds(process.target)
        assert time.monotonic() - start < 30


def test_clients_that_send_nothing_block_no_others(process, leakless):
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(process.target))
        assert responds(process.target)


def test_clients_that_vanish_in_the_middle_are_forgotten(process, leakless):
    for _ in range(50):
        with connect(process.target) as connection:
            connection.sendall(partial_request(10**6, 1000))


def _leave_while_waiting(process):
    """Nine slots, and a hundred clients that leave."""
    request = make_request(np.zeros((24, 32, 32, 32, 1), np.float32), "ggn")
    for _ in range(20):
        with grpc.insecure_channel(process.target) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for call in [stub.Predict.future(request, timeout=DEADLINE_S) for _ in range(5)]:
                call.cancel()
    _until(lambda: _has_slot(process.target))


@pytest.fixture
def loaded(process):
    """The same load before the measurement: the memory that it needs once is not a leak."""
    for _ in range(3):
        _leave_while_waiting(process)


def test_clients_that_leave_while_they_wait_free_their_slots(process, loaded, leakless):
    _leave_while_waiting(process)


def _has_slot(target):
    try:
        return responds(target)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        return False


def test_a_message_over_the_limit_is_refused(exported):
    limit = ("grpc.max_receive_message_length", 1_000_000)
    with ModelServer(exported, ServerOptions(port=0, channel_arguments=(limit,))) as server:
        assert responds(server.address, patches=7)
        with pytest.raises(grpc.RpcError) as caught:
            responds(server.address, patches=8)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()


def test_a_message_that_announces_gigabytes_reserves_none(process, leakless):
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(process.target)).sendall(partial_request(2**31 - 1, 10))
        assert responds(process.target)


def test_a_disk_that_is_full_of_half_a_copy_leaves_the_old_version_serving(exported, tmp_path):
    """The copy is made under its own name, file by file, as `cp -r` does; the disk stays full while requests come."""
    size = sum(file.stat().st_size for file in exported.rglob("*") if file.is_file())
    with small_disk(tmp_path / "disk", 3 * size // 2) as disk:
        shutil.copytree(exported, disk / "ggn")
        with ModelServer(disk / "ggn", ServerOptions(port=0, poll_wait_seconds=0.1)) as server:
            with pytest.raises(shutil.Error, match="No space left on device"):
                shutil.copytree(disk / "ggn" / "1", disk / "ggn" / "2")
            _until(lambda: _state(server.address, 2) == State.END)
            assert all(responds(server.address) for _ in range(5))
            assert _state(server.address, 1) == State.AVAILABLE
            shutil.rmtree(disk / "ggn" / "2")
            _until(lambda: responds(server.address))


def _state(target, version):
    with grpc.insecure_channel(target) as channel:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "ggn"
        response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=DEADLINE_S)
        return {status.version: status.state for status in response.model_version_status}.get(version)


@pytest.mark.nightly
def test_versions_that_vanish_while_they_serve_are_not_found_until_another_comes(folder):
    """Running requests are completed; those in between are NOT_FOUND; nothing restarts."""
    spare = folder.parent / "spare"
    shutil.copytree(folder / "1", spare)
    with ServerProcess(folder, "--file_system_poll_wait_seconds=0.1") as server:
        seen, patches, ended = [], np.zeros((2, 32, 32, 32, 1), np.float32), threading.Event()
        asking = threading.Thread(
            target=lambda: seen.append(load(server.target, 4, DEADLINE_S, patches, (1, 2), ended=ended))
        )
        asking.start()
        time.sleep(1)
        shutil.rmtree(folder / "1")
        _until(lambda: _state(server.target, 1) == State.END)
        time.sleep(0.5)
        add_version(spare, folder, 2)
        _until(lambda: _state(server.target, 2) == State.AVAILABLE)
        time.sleep(1)
        ended.set()
        asking.join(DEADLINE_S)
        assert server.alive
        assert server.terminate() == 0
    (result,) = seen
    assert set(result.versions) == {1, 2}
    assert {failed.partition(":")[0] for failed in result.failed} <= {"NOT_FOUND"}


@pytest.mark.nightly
def test_files_that_vanish_beneath_a_loaded_version_change_nothing(folder):
    with ServerProcess(folder, "--file_system_poll_wait_seconds=0.1") as server:
        for path in (folder / "1").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        time.sleep(1)
        assert responds(server.target)


@pytest.mark.nightly
def test_a_signal_under_load_refuses_and_breaks_nothing(exported):
    with ServerProcess(exported) as server:
        asking = threading.Thread(target=lambda: seen.append(load(server.target, 4, 4.0, patches, (1, 2))))
        seen, patches = [], np.zeros((2, 32, 32, 32, 1), np.float32)
        asking.start()
        time.sleep(1.5)
        assert server.terminate() == 0
        asking.join(DEADLINE_S)
    (result,) = seen
    assert result.count > 0
    assert {failed.partition(":")[0] for failed in result.failed} == {"UNAVAILABLE"}


@pytest.mark.nightly
def test_under_load_every_swap_goes_unnoticed(tiny_model, tiny, tmp_path):
    """Eight clients, mixed batches, and new versions alternately of two models."""
    other = build_cascade(3, tiny, seed=9)
    versions = [export_model(model, THREE_CLASSES, tiny, tmp_path / "exported") for model in (tiny_model, other)]
    patches = sample_patches(tiny.patch, 8, seed=2)
    clients, last = 8, 5
    probabilities = []
    for version in versions:
        with LocalModel(version) as model:
            probabilities.append(model.predict(patches).probabilities)
    assert np.abs(probabilities[0] - probabilities[1]).max(axis=1).min() > 2e-3
    (tmp_path / "ggn").mkdir()
    add_version(versions[0], tmp_path / "ggn", 1)
    expected = {number: probabilities[(number - 1) % 2] for number in range(1, last + 1)}
    ended = threading.Event()

    def swap(target):
        try:
            for number in range(2, last + 1):
                time.sleep(1)
                add_version(versions[(number - 1) % 2], tmp_path / "ggn", number)
                _until(lambda number=number: _state(target, number) == State.AVAILABLE)
            time.sleep(1)
        finally:
            ended.set()

    with ServerProcess(tmp_path / "ggn", "--file_system_poll_wait_seconds=0.2") as server:
        swapper = threading.Thread(target=swap, args=(server.target,))
        swapper.start()
        found = load(server.target, clients, 2 * DEADLINE_S, patches, (1, 1, 2, 8), expected, ended=ended)
        swapper.join()
    assert (found.failed, found.wrong) == ([], 0)
    assert set(found.versions) == set(range(1, last + 1))


@pytest.mark.nightly
def test_memory_stays_where_it_is(process):
    patches = np.zeros((1, 32, 32, 32, 1), np.float32)
    load(process.target, 4, 3.0, patches, (1,))
    before, count = process.resident_mib, 0
    while count < 1000:
        count += load(process.target, 4, 1.0, patches, (1,)).count
    assert process.resident_mib < before + 40
