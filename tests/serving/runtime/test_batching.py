"""Requests of several clients in one run of the graph."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract.messages import make_request, read_response
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.export.golden_requests import sample_patches
from ggn_tf.serving.runtime.batching import BatchingParameters, read_batching_parameters
from ggn_tf.serving.runtime.predict_request import LocalModel, predict
from ggn_tf.serving.runtime.servable import open_servable
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from ggn_tf.training.profile import read_ops

PROCESSOR, FUSING = Path("/proc/cpuinfo"), {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile"}
OURS = Path(__file__).parents[3] / "serving" / "batching.config"
LONG_MICROS = 500_000
"""Long enough for all requests of a test to be joined."""


@pytest.fixture(scope="module")
def stub(exported):
    """A server that waits for eight patches, and processes one batch at a time."""
    options = ServerOptions(port=0, batching=BatchingParameters(24, LONG_MICROS, 10, 1, (8, 24)))
    with ModelServer(exported, options) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_our_file_is_read():
    assert read_batching_parameters(OURS) == BatchingParameters(24, 5000, 64, 2, (1, 2, 4, 8, 16, 24))


def test_missing_parameters_have_the_defaults_of_tensorflow_serving(tmp_path):
    (tmp_path / "file").write_text(
        'max_batch_size { value: 8 } thread_pool_name { value: "any" } pad_variable_length_inputs: true  # a comment'
    )
    assert read_batching_parameters(tmp_path / "file") == BatchingParameters(8, 0, 10)


@pytest.mark.parametrize(
    "text",
    [
        "max_batch: 3",
        "max_batch_size: 3",
        "max_batch_size { value: 0 }",
        "max_batch_size { value: 8 } allowed_batch_sizes: 4",
        "max_batch_size { value: 4 } allowed_batch_sizes: 2 allowed_batch_sizes: 2 allowed_batch_sizes: 4",
        "\x00",
        None,
    ],
)
def test_a_file_that_cannot_be_used_is_refused(text, tmp_path):
    if text is not None:
        (tmp_path / "file").write_text(text)
    with pytest.raises(ServingError) as caught:
        read_batching_parameters(tmp_path / "file")
    assert caught.value.case == str(tmp_path / "file")
    assert caught.value.arguments == ("batching_parameters_file",)


def test_every_request_gets_its_own_rows(stub, exported, tiny):
    patches = sample_patches(tiny.patch, 21, seed=5)
    parts = np.split(patches, np.cumsum([1, 2, 3, 4, 5]))
    with LocalModel(exported) as model:
        expected = [model.predict(part) for part in parts]
    with ThreadPoolExecutor(len(parts)) as pool:
        responses = list(pool.map(lambda part: stub.Predict(make_request(part, "ggn"), timeout=60), parts))
    for part, response, alone in zip(parts, responses, expected, strict=True):
        prediction = read_response(response, part.shape)
        np.testing.assert_allclose(prediction.probabilities, alone.probabilities, atol=1e-5)
        np.testing.assert_allclose(prediction.mask, alone.mask, atol=1e-5)
        assert prediction.class_names == alone.class_names


def test_requests_at_the_same_time_share_a_run(tmp_path):
    """The graph returns how many rows it saw: more than any single request had."""

    class Counting(tf.Module):
        """With a variable, as models of other programs have."""

        def __init__(self):
            super().__init__()
            self.none = tf.Variable(0)

        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
        def serve(self, x):
            return {"rows": tf.fill([tf.shape(x)[0]], tf.shape(x)[0]) + self.none}

    module = Counting()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ggn"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.0]]))
    parameters = BatchingParameters(8, LONG_MICROS, 10, 1, (8,))
    options = ServerOptions(port=0, batching=parameters, trust=Trust(any_program=True))
    with ModelServer(tmp_path, options) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        responses = [call.result() for call in [stub.Predict.future(request, timeout=60) for _ in range(8)]]
    assert [list(response.outputs["rows"].int_val) for response in responses] == [[8]] * 8


@pytest.mark.skipif(
    not FUSING & set(PROCESSOR.read_text(encoding="utf-8").split() if PROCESSOR.exists() else ()),
    reason="TensorFlow fuses them only on processors with AVX VNNI, AVX-512 VNNI or BF16, or AMX",
)
def test_a_batch_runs_the_same_operations_as_a_request_alone(exported, tiny, tmp_path):
    """TensorFlow does not optimize what its scheduler calls: convolution, bias and ReLU would be three operations."""
    kinds = []
    for number, batching in enumerate((None, read_batching_parameters(OURS))):
        servable = open_servable(exported / "1", "ggn", 1, batching)
        request = make_request(sample_patches(tiny.patch, 2, seed=5), "ggn")
        predict(servable, request)
        tf.profiler.experimental.start(str(tmp_path / str(number)))
        predict(servable, request)
        tf.profiler.experimental.stop()
        servable.close()
        (trace,) = (tmp_path / str(number)).glob("plugins/profile/*/*.xplane.pb")
        kinds.append({op.kind for op in read_ops(trace) if op.kind})
    alone, joined = kinds
    assert any(kind.endswith("FusedConv3D") for kind in alone)
    assert joined <= alone


def test_a_request_larger_than_a_batch_is_refused(stub, tiny):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(make_request(sample_patches(tiny.patch, 25, seed=0), "ggn"), timeout=60)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_full_queue_is_unavailable(exported, tmp_path):
    """One batch runs, one waits, with two patches each."""
    shutil.copytree(exported, tmp_path / "ggn")
    for file in ("tf_serving_warmup_requests", "SHA256SUMS"):
        (tmp_path / "ggn/1/assets.extra" / file).unlink()
    options = ServerOptions(port=0, batching=BatchingParameters(2, 0, 1, 1), running=64, trust=Trust(any_program=True))
    request = make_request(np.zeros((2, 32, 32, 32, 1)), "ggn")
    with ModelServer(tmp_path / "ggn", options) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        codes = {call.code() for call in [stub.Predict.future(request, timeout=60) for _ in range(40)]}
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
