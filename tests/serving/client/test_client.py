import asyncio
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.errors import ServingError
from ggn_tf.serving.client.client import AsyncPredictionClient, PredictionClient
from ggn_tf.serving.client.server_check import check_server
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.export.golden_requests import sample_patches, sample_regions
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from tests.support.loopback_server import free_port
from tests.support.prediction_server import serving


class Awaited:
    """The asyncio client behind the blocking one's methods, so that both run the same tests."""

    def __init__(self, *args, **kwargs):
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)  # two loops in a process: gRPC reports empty reads

        async def made():
            return AsyncPredictionClient(*args, **kwargs)

        self.client = self.loop.run_until_complete(made())

    def __getattr__(self, name):
        return lambda *args: self.loop.run_until_complete(getattr(self.client, name)(*args))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self.loop.close()


@pytest.fixture(params=[PredictionClient, Awaited], ids=["blocking", "asyncio"])
def client_class(request):
    return request.param


@pytest.fixture
def client(server, client_class):
    with client_class(f"127.0.0.1:{server.port}") as opened:
        yield opened


class Forwarding(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Forwards requests to another server, and notes their number, and their sizes and those of the responses."""

    def __init__(self, server):
        self.count, self.described, self.sizes = 0, 0, []
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.max_receive_message_length", -1)])
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def Predict(self, request, context):  # noqa: N802
        self.count += 1
        response = self.stub.Predict(request)
        self.sizes += [request.ByteSize(), response.ByteSize()]
        return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        self.described += 1
        return self.stub.GetModelMetadata(request)


def test_the_server_predicts_like_the_keras_model(client, patches, tiny_model, tiny):
    prediction = client.predict(patches)
    expected = tiny_model.predict(normalise_hu(patches, tiny.patch.window_hu), verbose=0)
    np.testing.assert_allclose(prediction.probabilities, expected["probabilities"], atol=1e-5)
    np.testing.assert_allclose(prediction.mask, expected["mask"], atol=1e-5)
    assert prediction.class_names == ("AAH+AIS", "MIA", "IAC")
    assert prediction.model_version == 1


def test_chunks_come_back_in_order(client, exported, tiny):
    patches = sample_patches(tiny.patch, 50, seed=3)
    prediction = client.predict(patches)
    with LocalModel(exported) as model:
        expected = model.predict(patches)
    np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(prediction.mask, expected.mask, atol=1e-5)


def test_no_request_is_larger_than_grpcs_default_of_4_mib(server, tiny):
    servicer = Forwarding(server)
    with serving(servicer) as target, PredictionClient(target) as client:
        client.predict(sample_patches(tiny.patch, 50, seed=3))
    assert servicer.count == 3
    assert max(servicer.sizes) < 4 * 2**20


@pytest.mark.parametrize("shape", [(32, 32, 32, 1), (1, 32, 32, 32), (1, 32, 32, 16, 1), (0, 32, 32, 32, 1)])
def test_patches_of_another_shape_are_refused_before_they_are_sent(shape, client):
    with pytest.raises(ServingError) as caught:
        client.predict(np.zeros(shape, np.float32))
    assert caught.value.found == "[" + ",".join(map(str, shape)) + "]"
    assert caught.value.expected == "[N,32,32,32,1] with N at least 1"


def test_other_types_are_sent_as_float32(client, patches):
    np.testing.assert_array_equal(
        client.predict(np.rint(patches).astype(np.int16)).probabilities,
        client.predict(np.rint(patches)).probabilities,
    )


def test_no_server_is_an_error():
    target = f"127.0.0.1:{free_port()}"
    with PredictionClient(target, timeout_s=1.0) as client, pytest.raises(ServingError) as caught:
        client.patch_shape()
    assert caught.value.case == f"model ggn on {target}"
    assert caught.value.found.startswith("UNAVAILABLE: ")


def test_a_model_of_another_name_is_an_error(server):
    client = PredictionClient(f"127.0.0.1:{server.port}", model_name="lung")
    with client, pytest.raises(ServingError) as caught:
        client.patch_shape()
    assert caught.value.found.startswith("NOT_FOUND: ")
    assert caught.value.arguments == ("model_name", "version")


def test_a_foreign_model_is_refused_before_anything_is_sent(tmp_path, patches):
    class Foreign(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def serve(self, x):
            return {"y": x}

    module = Foreign()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    with ModelServer(tmp_path, ServerOptions(port=0, trust=Trust(any_program=True))) as server:
        client = PredictionClient(f"127.0.0.1:{server.port}")
        with client, pytest.raises(ServingError) as caught:
            client.predict(patches)
    assert caught.value.found == "serving_default: x DT_FLOAT, y DT_FLOAT"
    assert "hu DT_FLOAT" in caught.value.expected


class Refusing(Forwarding):
    """Refuses the first requests with a status code."""

    def __init__(self, server, code, times):
        super().__init__(server)
        self.code, self.left = code, times

    def Predict(self, request, context):  # noqa: N802
        if self.left:
            self.left -= 1
            self.count += 1
            context.abort(self.code, "not now")
        return super().Predict(request, context)


def test_an_unavailable_server_is_tried_again(server, patches, client_class):
    servicer = Refusing(server, grpc.StatusCode.UNAVAILABLE, 2)
    with serving(servicer) as target, client_class(target) as client:
        assert len(client.predict(patches).probabilities) == 3
    assert servicer.count == 3


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL"])
def test_any_other_refusal_is_final(code, server, patches, client_class):
    servicer = Refusing(server, grpc.StatusCode[code], 1)
    with serving(servicer) as target, client_class(target) as client, pytest.raises(ServingError) as caught:
        client.predict(patches)
    assert caught.value.found == f"{code}: not now"
    assert servicer.count == 1


@pytest.mark.parametrize(
    ("options", "requests"), [({"timeout_s": 60, "pauses_s": (0.0, 3600.0)}, 2), ({"pauses_s": (0.0, 0.0, 0.0)}, 4)]
)
def test_retries_end_with_the_timeout_and_with_the_pauses(options, requests, server, patches):
    servicer = Refusing(server, grpc.StatusCode.UNAVAILABLE, 100)
    with (
        serving(servicer) as target,
        PredictionClient(target, **options) as client,
        pytest.raises(ServingError),
    ):
        client.predict(patches)
    assert servicer.count == requests


def test_a_server_that_is_just_starting_is_found(exported, patches):
    server = ModelServer(exported, ServerOptions(port=free_port()))

    def pauses_s():
        """The server starts once the client has found none."""
        server.start()
        yield from [0.1] * 300

    with PredictionClient(f"127.0.0.1:{server.options.port}", pauses_s=pauses_s()) as client:
        try:
            assert client.predict(patches).model_version == 1
        finally:
            server.stop()


def test_predictions_of_two_versions_are_never_mixed(server, tiny):
    class Swapping(Forwarding):
        def Predict(self, request, context):  # noqa: N802
            response = super().Predict(request, context)
            response.model_spec.version.value = 1 if self.count == 1 else 2
            return response

    servicer = Swapping(server)
    with serving(servicer) as target, PredictionClient(target) as client:
        assert client.predict(sample_patches(tiny.patch, 30, seed=0)).model_version == 2
    assert servicer.count == 4


def test_a_response_that_breaks_the_contract_is_refused(server, patches):
    servicer = Changed(server, lambda response: response.outputs.__delitem__("mask"))
    with serving(servicer) as target, PredictionClient(target) as client, pytest.raises(ServingError) as caught:
        client.predict(patches)
    assert caught.value.found == "an output is missing; outputs class_names, probabilities, warning"


def declare(response, name, shape, dtype=types_pb2.DT_FLOAT):
    response.outputs[name].CopyFrom(tensor_pb2.TensorProto(dtype=dtype))
    for size in shape:
        response.outputs[name].tensor_shape.dim.add(size=size)


def texts(response, name, value):
    response.outputs[name].string_val[:] = [value] * len(response.outputs[name].string_val)


HOSTILE = {
    "texts for numbers": lambda r: declare(r, "probabilities", (3, 3), types_pb2.DT_STRING),
    "numbers for texts": lambda r: declare(r, "class_names", (3, 3)),
    "an unknown type": lambda r: declare(r, "mask", (3, 32, 32, 32, 1), 9999),
    "a shape of its own": lambda r: declare(r, "probabilities", (3, 2**28)),
    "a rank of its own": lambda r: declare(r, "mask", (1,) * 300),
}


class Changed(Forwarding):
    """Forwards with a change of the responses."""

    def __init__(self, server, change, metadata=lambda signatures: None):
        super().__init__(server)
        self.change, self.metadata = change, metadata

    def Predict(self, request, context):  # noqa: N802
        response = super().Predict(request, context)
        self.change(response)
        return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        response = super().GetModelMetadata(request, context)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        if self.metadata(signatures) is not None:
            response.metadata["signature_def"].value = b"\xff"
        else:
            response.metadata["signature_def"].Pack(signatures)
        return response


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_response_is_refused_and_fills_no_memory(name, server, patches):
    with serving(Changed(server, HOSTILE[name])) as target, PredictionClient(target) as client:
        tracemalloc.start()
        with pytest.raises(ServingError, match="does not follow the contract"):
            client.predict(patches)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
        tracemalloc.stop()


def test_texts_of_a_server_are_printable_lines(server, patches):
    def change(response):
        texts(response, "class_names", b"MIA\ndecision   IAC\xff\x1b[30;40m")
        texts(response, "warning", b"code: text\x1b[8m")

    with serving(Changed(server, change)) as target, PredictionClient(target) as client:
        prediction = client.predict(patches)
    assert prediction.class_names == ("MIA decision   IAC\ufffd\\u001b[30;40m",) * 3
    assert prediction.warnings == ("code: text\\u001b[8m",) * 3


def of_size(size):
    def change(signatures):
        for signature in signatures.signature_def.values():
            for dim in signature.outputs["mask"].tensor_shape.dim[1:4]:
                dim.size = size

    return change


def of_unknown_type(signatures):
    signatures.signature_def["serving_default"].outputs["mask"].dtype = 9999


@pytest.mark.parametrize("metadata", [of_size(2**20), of_size(-1), of_unknown_type, lambda signatures: b""])
def test_a_hostile_signature_is_refused(metadata, server):
    with (
        serving(Changed(server, lambda response: None, metadata)) as target,
        PredictionClient(target) as client,
        pytest.raises(ServingError, match="not an export of ggn-tf"),
    ):
        client.predict_roi(*sample_regions(seed=1))


def test_regions_are_predicted_as_by_the_export(client, exported):
    regions = sample_regions(seed=1)
    prediction = client.predict_roi(*regions)
    with LocalModel(exported) as model:
        expected = model.predict_roi(*regions)
    np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(prediction.mask, expected.mask, atol=1e-5)
    assert prediction.warnings == expected.warnings
    assert [warning.partition(":")[0] for warning in prediction.warnings][2] == "partly_outside_ct"


def test_regions_too_large_for_one_message_are_sent_one_by_one(server):
    """Two regions of 2.3 MiB: gRPC's default limit is 4 MiB."""
    servicer = Forwarding(server)
    hu = np.full((2, 60, 100, 100), -700, np.int16)
    triples = np.ones((2, 3)), np.full((2, 3), 50.0)
    with serving(servicer) as target, PredictionClient(target) as client:
        assert client.predict_roi(hu, *triples).probabilities.shape == (2, 3)
    assert servicer.count == 2 and max(servicer.sizes[::2]) < 4 * 2**20


@pytest.mark.parametrize(
    ("hu", "spacing_mm", "center_index"),
    [
        ((2, 8, 8, 8), (1, 3), (2, 3)),
        ((2, 8, 8, 8), (2, 3), (3,)),
        ((8, 8, 8), (8, 3), (8, 3)),
        ((0, 8, 8, 8), (0, 3), (0, 3)),
    ],
)
def test_regions_of_another_shape_are_refused_before_they_are_sent(hu, spacing_mm, center_index, client):
    with pytest.raises(ServingError) as caught:
        client.predict_roi(np.zeros(hu), np.ones(spacing_mm), np.ones(center_index))
    assert "spacing [N,3]" in caught.value.expected


def test_the_given_version_predicts(server, patches, client_class):
    with client_class(f"127.0.0.1:{server.port}", version=1) as client:
        assert client.predict(patches).model_version == 1


def test_a_given_version_that_is_not_served_is_an_error(server, patches, client_class):
    with (
        client_class(f"127.0.0.1:{server.port}", version=4) as client,
        pytest.raises(ServingError) as caught,
    ):
        client.predict(patches)
    assert caught.value.case == f"model ggn version 4 on 127.0.0.1:{server.port}"
    assert caught.value.found.startswith("NOT_FOUND: ")


def test_the_metadata_are_read_once(server, patches):
    servicer = Forwarding(server)
    with serving(servicer) as target, PredictionClient(target) as client:
        client.predict(patches)
        client.predict(patches)
    assert (servicer.described, servicer.count) == (1, 2)


def test_many_calls_can_be_awaited_at_a_time(server, patches):
    async def predict_all():
        async with AsyncPredictionClient(f"127.0.0.1:{server.port}") as client:
            return await asyncio.gather(*(client.predict(patches[:1]) for _ in range(12)))

    predictions = asyncio.run(predict_all())
    for prediction in predictions[1:]:
        np.testing.assert_allclose(prediction.probabilities, predictions[0].probabilities, atol=1e-6)


def test_a_deadline_ends_the_waiting(patches, client_class):
    class Silent(prediction_service_pb2_grpc.PredictionServiceServicer):
        def GetModelMetadata(self, request, context):  # noqa: N802
            ended.wait(30)

    ended = threading.Event()
    with (
        serving(Silent()) as target,
        client_class(target, timeout_s=0.5) as client,
        pytest.raises(ServingError) as caught,
    ):
        try:
            client.predict(patches)
        finally:
            ended.set()
    assert caught.value.found.startswith("DEADLINE_EXCEEDED: ")


VARIABLES = ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")


class Proxy:
    """Counts connections, and connects nobody."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                self.requests.append(connection.recv(100))


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """A proxy that the whole environment names."""
    found = Proxy()
    for variable in VARIABLES:
        monkeypatch.setenv(variable, f"http://{found.address}")
    for variable in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return found


def test_no_client_uses_the_environment_s_proxies(server: ModelServer, exported: Path, patches: np.ndarray, proxy):
    target = f"127.0.0.1:{server.port}"
    with PredictionClient(target, timeout_s=10) as client:
        client.predict(patches)

    async def predict() -> None:
        async with AsyncPredictionClient(target, timeout_s=10) as client:
            await client.predict(patches)

    asyncio.run(predict())
    check_server(target, exported, repeats=1, timeout_s=10)
    assert proxy.requests == []


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_proxy_that_was_asked_for_is_used(server: ModelServer, proxy: Proxy, scheme: str):
    target = f"127.0.0.1:{server.port}"
    with PredictionClient(target, timeout_s=3, proxy=scheme + proxy.address) as client, pytest.raises(ServingError):
        client.patch_shape()
    assert proxy.requests and proxy.requests[0].startswith(f"CONNECT {target} ".encode())


def test_a_proxy_of_another_kind_is_refused():
    with pytest.raises(ServingError, match="HTTP proxy") as caught:
        PredictionClient("localhost:1", proxy="socks5://localhost:1080")
    assert caught.value.arguments == ("proxy",)


@pytest.fixture(scope="module")
def has_ipv6() -> Iterator[None]:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    yield


@pytest.mark.parametrize("host", ["::", "[::1]"])
def test_a_server_on_ipv6_is_reached_by_its_address(exported: Path, patches: np.ndarray, has_ipv6, host: str):
    with ModelServer(exported, ServerOptions(host=host, port=0)) as server:
        assert server.address == f"[{host.strip('[]')}]:{server.port}"
        with PredictionClient(server.address, timeout_s=10) as client:
            assert client.predict(patches).model_version == 1
        check_server(f"[::1]:{server.port}", exported, repeats=1, timeout_s=10)
