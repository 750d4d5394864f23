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
from ggn_tf.serving.export.golden_requests import sample_patches
from ggn_tf.serving.runtime.batching import BatchingParameters, read_batching_parameters
from ggn_tf.serving.runtime.local_model import LocalModel
from ggn_tf.serving.runtime.predict_request import predict
from ggn_tf.serving.runtime.servable import open_servable
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from ggn_tf.training.profile import read_ops

PROCESSOR, FUSING = Path("/proc/cpuinfo"), {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile"}
OURS = Path(__file__).parents[3] / "serving" / "batching.config"
LONG_MICROS = 500_000
"""Long enough for every request of a test to find its company."""


@pytest.fixture(scope="module")
def stub(exported):
    """A server that waits for eight patches, and works on one batch at a time."""
    batching = BatchingParameters(24, LONG_MICROS, 10, 1, (8, 24))
    options = ServerOptions(port=0, batching=batching)
    with ModelServer(exported, options) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_the_file_of_the_real_server_is_read():
    parameters = read_batching_parameters(OURS)
    assert parameters.max_batch_size == 24
    assert parameters.allowed_batch_sizes[-1] == 24


def test_what_a_file_does_not_say_is_as_the_real_server_has_it(tmp_path):
    (tmp_path / "file").write_text(
        'max_batch_size { value: 8 } thread_pool_name { value: "any" } pad_variable_length_inputs: true  # a comment'
    )
    parameters = read_batching_parameters(tmp_path / "file")
    assert (parameters.max_batch_size, parameters.batch_timeout_micros, parameters.max_enqueued_batches) == (8, 0, 10)
    assert parameters.allowed_batch_sizes == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_batch: 3", 'no field named "max_batch"'),
        ("max_batch_size: 3", "Expected"),
        ("max_batch_size { value: 0 }", "counts are positive"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "rise to max_batch_size"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 2 allowed_batch_sizes: 2 allowed_batch_sizes: 4", "rise"),
        ("\x00", ""),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(text, told, tmp_path):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ServingError, match="batching parameters cannot be used") as caught:
        read_batching_parameters(tmp_path / "file")
    assert told in caught.value.found
    assert caught.value.case == str(tmp_path / "file")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ServingError, match="batching parameters cannot be used"):
        read_batching_parameters(tmp_path / "none")


def test_everybody_gets_his_own_rows(stub, exported, tiny):
    patches = sample_patches(tiny.patch, 21, seed=5)
    parts = np.split(patches, np.cumsum([1, 2, 3, 4, 5]))
    with LocalModel(exported) as model:
        expected = [model.predict(part) for part in parts]
    with ThreadPoolExecutor(len(parts)) as pool:
        answers = list(pool.map(lambda part: stub.Predict(make_request(part, "ggn"), timeout=60), parts))
    for part, response, alone in zip(parts, answers, expected, strict=True):
        answer = read_response(response, part.shape)
        np.testing.assert_allclose(answer.probabilities, alone.probabilities, atol=1e-5)
        np.testing.assert_allclose(answer.mask, alone.mask, atol=1e-5)
        assert answer.class_names == alone.class_names


def test_requests_at_the_same_time_share_a_run(tmp_path):
    """The graph tells how many rows it saw: more than any single request had."""

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
    options = ServerOptions(port=0, batching=BatchingParameters(8, LONG_MICROS, 10, 1, (8,)))
    with ModelServer(tmp_path, options) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answers = [call.result() for call in [stub.Predict.future(request, timeout=60) for _ in range(8)]]
    assert [list(answer.outputs["rows"].int_val) for answer in answers] == [[8]] * 8


@pytest.mark.skipif(
    not FUSING & set(PROCESSOR.read_text(encoding="utf-8").split() if PROCESSOR.exists() else ()),
    reason="TensorFlow makes one operation of them on processors with AVX VNNI, AVX-512 VNNI or BF16, or AMX alone",
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
    assert caught.value.details() == "Task size 25 is larger than maximum input batch size 24"


def test_a_full_queue_is_unavailable(exported, tmp_path):
    """One batch at work, one in the queue, and two patches in each."""
    shutil.copytree(exported, tmp_path / "ggn")
    for file in ("tf_serving_warmup_requests", "SHA256SUMS"):
        (tmp_path / "ggn/1/assets.extra" / file).unlink()
    options = ServerOptions(port=0, batching=BatchingParameters(2, 0, 1, 1), running=64)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ggn"
    request.inputs["hu"].CopyFrom(tf.make_tensor_proto(0.0, shape=(2, 32, 32, 32, 1)))
    with ModelServer(tmp_path / "ggn", options) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        calls = [stub.Predict.future(request, timeout=60) for _ in range(40)]
        codes = [call.code() for call in calls]
        details = {call.details() for call in calls if call.code() == grpc.StatusCode.UNAVAILABLE}
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert details == {
        "The batch scheduling queue to which this task was submitted is full; currently 1 batches enqueued and "
        "max_enqueued_batches is 1"
    }
