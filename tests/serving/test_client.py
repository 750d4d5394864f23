import socket
from concurrent import futures
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from ggn_tf.dataset.pipeline import normalise_hu
from ggn_tf.errors import ServingError
from ggn_tf.serving.client import PredictionClient
from ggn_tf.serving.local_model import LocalModel
from ggn_tf.serving.recordings import sample_patches
from ggn_tf.serving.server import ModelServer, ServerOptions


@pytest.fixture
def client(server):
    with PredictionClient(f"127.0.0.1:{server.port}") as opened:
        yield opened


@contextmanager
def serving(servicer):
    """A server that behaves as the test wants."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


class Forwarding(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Has another server answer."""

    def __init__(self, server):
        self.asked = 0
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.max_receive_message_length", -1)])
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def Predict(self, request, context):  # noqa: N802
        self.asked += 1
        return self.stub.Predict(request)

    def GetModelMetadata(self, request, context):  # noqa: N802
        return self.stub.GetModelMetadata(request)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_server_answers_like_the_keras_model(client, patches, tiny_model, tiny):
    answer = client.predict(patches)
    expected = tiny_model.predict(normalise_hu(patches, tiny.patch.window_hu), verbose=0)
    np.testing.assert_allclose(answer.probabilities, expected["probabilities"], atol=1e-5)
    np.testing.assert_allclose(answer.mask, expected["mask"], atol=1e-5)
    assert answer.class_names == ("AAH+AIS", "MIA", "IAC")
    assert answer.model_version == 1


def test_chunks_come_back_in_order(client, exported, tiny):
    patches = sample_patches(tiny.patch, 50, seed=3)
    answer = client.predict(patches)
    with LocalModel(exported) as model:
        expected = model.predict(patches)
    np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(answer.mask, expected.mask, atol=1e-5)


def test_no_request_is_larger_than_grpcs_default_of_4_mib(server, tiny):
    class Measuring(Forwarding):
        def Predict(self, request, context):  # noqa: N802
            sizes.append(request.ByteSize())
            response = super().Predict(request, context)
            sizes.append(response.ByteSize())
            return response

    sizes: list[int] = []
    with serving(Measuring(server)) as target, PredictionClient(target) as client:
        client.predict(sample_patches(tiny.patch, 50, seed=3))
    assert len(sizes) == 6
    assert max(sizes) < 4 * 2**20


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


def test_no_server_is_told_as_such():
    target = f"127.0.0.1:{free_port()}"
    with PredictionClient(target, timeout_s=1.0) as client, pytest.raises(ServingError) as caught:
        client.patch_shape()
    assert caught.value.what == "No model server answers."
    assert caught.value.case == f"model ggn on {target}"
    assert caught.value.found.startswith("UNAVAILABLE: ")
    assert "ggn-tf serve" in caught.value.remedy


def test_a_model_of_another_name_is_told_as_such(server):
    client = PredictionClient(f"127.0.0.1:{server.port}", model_name="lung")
    with client, pytest.raises(ServingError) as caught:
        client.patch_shape()
    assert caught.value.found == "NOT_FOUND: Servable not found for request: Latest(lung)"
    assert "--model_name" in caught.value.remedy


def test_a_foreign_model_is_refused_before_anything_is_sent(tmp_path, patches):
    class Foreign(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def serve(self, x):
            return {"y": x}

    module = Foreign()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    with ModelServer(tmp_path, ServerOptions(port=0)) as server:
        client = PredictionClient(f"127.0.0.1:{server.port}")
        with client, pytest.raises(ServingError) as caught:
            client.predict(patches)
    assert caught.value.found == "serving_default: x DT_FLOAT, y DT_FLOAT"
    assert "hu DT_FLOAT" in caught.value.expected


class Refusing(Forwarding):
    """Refuses the first requests."""

    def __init__(self, server, code, times):
        super().__init__(server)
        self.code, self.left = code, times

    def Predict(self, request, context):  # noqa: N802
        if self.left:
            self.left -= 1
            self.asked += 1
            context.abort(self.code, "not now")
        return super().Predict(request, context)


def test_an_unavailable_server_is_asked_again(server, patches):
    servicer = Refusing(server, grpc.StatusCode.UNAVAILABLE, 2)
    with serving(servicer) as target, PredictionClient(target) as client:
        assert len(client.predict(patches).probabilities) == 3
    assert servicer.asked == 3


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL"])
def test_any_other_refusal_is_final(code, server, patches):
    servicer = Refusing(server, grpc.StatusCode[code], 1)
    with serving(servicer) as target, PredictionClient(target) as client, pytest.raises(ServingError) as caught:
        client.predict(patches)
    assert caught.value.found == f"{code}: not now"
    assert servicer.asked == 1


def test_no_retry_is_waited_for_beyond_the_timeout(server, patches):
    servicer = Refusing(server, grpc.StatusCode.UNAVAILABLE, 100)
    with (
        serving(servicer) as target,
        PredictionClient(target, timeout_s=60, pauses_s=(0.0, 3600.0)) as client,
        pytest.raises(ServingError, match="within 60 s"),
    ):
        client.predict(patches)
    assert servicer.asked == 2


def test_retries_end_with_the_pauses(server, patches):
    servicer = Refusing(server, grpc.StatusCode.UNAVAILABLE, 100)
    with (
        serving(servicer) as target,
        PredictionClient(target, pauses_s=(0.0, 0.0, 0.0)) as client,
        pytest.raises(ServingError, match="No model server answers"),
    ):
        client.predict(patches)
    assert servicer.asked == 4


def test_a_server_that_is_just_starting_is_found(exported, patches):
    server = ModelServer(exported, ServerOptions(port=free_port()))

    def pauses_s():
        """The server comes up once the client has found none."""
        server.start()
        yield from [0.1] * 300

    with PredictionClient(f"127.0.0.1:{server.options.port}", pauses_s=pauses_s()) as client:
        try:
            assert client.predict(patches).model_version == 1
        finally:
            server.stop()


def test_answers_of_two_versions_are_never_mixed(server, tiny):
    class Swapping(Forwarding):
        def Predict(self, request, context):  # noqa: N802
            response = super().Predict(request, context)
            response.model_spec.version.value = 1 if self.asked == 1 else 2
            return response

    servicer = Swapping(server)
    with serving(servicer) as target, PredictionClient(target) as client:
        assert client.predict(sample_patches(tiny.patch, 30, seed=0)).model_version == 2
    assert servicer.asked == 4


def test_an_answer_that_breaks_the_contract_is_refused(server, patches):
    class Losing(Forwarding):
        def Predict(self, request, context):  # noqa: N802
            response = super().Predict(request, context)
            del response.outputs["mask"]
            return response

    servicer = Losing(server)
    with serving(servicer) as target, PredictionClient(target) as client, pytest.raises(ServingError) as caught:
        client.predict(patches)
    assert caught.value.found == "an output is missing; outputs class_names, probabilities, warning"
