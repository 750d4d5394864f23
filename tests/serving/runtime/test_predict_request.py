"""Predict, GetModelMetadata and GetModelStatus by the official stubs: status codes, and the order of the checks."""

import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ggn_tf.serving.contract.tensors import decode, repeat
from ggn_tf.serving.export.golden_requests import sample_patches
from ggn_tf.serving.runtime.predict_request import LocalModel

PATCH = (1, 32, 32, 32, 1)


def zeros(*shape, dtype=np.float32):
    return tf.make_tensor_proto(np.zeros(shape, dtype))


def with_spec(request, name="ggn", signature="", version=None, label=None):
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    return request


def patch_request(inputs=None, output_filter=(), **spec):
    request = with_spec(predict_pb2.PredictRequest(output_filter=output_filter), **spec)
    for alias, tensor in ({"hu": zeros(*PATCH)} if inputs is None else inputs).items():
        request.inputs[alias].CopyFrom(tensor)
    return request


def roi_request(**changed):
    triple = zeros(1, 3, dtype=np.float64)
    inputs = {"hu": zeros(1, 3, 3, 3), "spacing_mm": triple, "center_index": triple} | changed
    return patch_request(inputs, signature="roi")


def metadata_request(fields=("signature_def",), **spec):
    return with_spec(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields), **spec)


def status_request(**spec):
    return with_spec(get_model_status_pb2.GetModelStatusRequest(), **spec)


def with_type(number):
    tensor = zeros(*PATCH)
    tensor.dtype = number
    return tensor


def contradicting():
    tensor = zeros(*PATCH)
    tensor.tensor_content = b"1234"
    return tensor


@pytest.fixture(scope="module")
def send(channel):
    """Sends a request to the method that it is for."""
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    methods = {
        predict_pb2.PredictRequest: predictions.Predict,
        classification_pb2.ClassificationRequest: predictions.Classify,
        get_model_metadata_pb2.GetModelMetadataRequest: predictions.GetModelMetadata,
        get_model_status_pb2.GetModelStatusRequest: model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus,
    }
    return lambda request, timeout=10: methods[type(request)](request, timeout=timeout)


DOUBLE = {"hu": zeros(*PATCH, dtype=np.float64)}
# A request that fails several checks shows their order.
INVALID = {
    "no model spec": predict_pb2.PredictRequest(),
    "no name, before the label": patch_request(name="", label="stable"),
    "label, before the name": patch_request(name="other", label="stable"),
    "too many inputs": patch_request({"a": zeros(1), "b": zeros(1)}),
    "no inputs": patch_request({}),
    "wrong input name": patch_request({"x": zeros(1)}),
    "content that contradicts its shape": patch_request({"hu": contradicting()}),
    "empty tensor": patch_request({"hu": type(zeros(1))()}),
    "unknown output": patch_request(output_filter=["z"]),
    "output twice": patch_request(output_filter=["mask", "mask"]),
    "double": patch_request(DOUBLE),
    "string": patch_request({"hu": tf.make_tensor_proto(b"patch")}),
    "rank 4": patch_request({"hu": zeros(32, 32, 32, 1)}),
    "other size": patch_request({"hu": zeros(1, 32, 32, 16, 1)}),
    "empty batch": patch_request({"hu": zeros(0, 32, 32, 32, 1)}),
    "shape larger than any message": patch_request({"hu": repeat(0.0, (10**9, 32, 32, 32, 1), "float32")}),
    "region without rows": roi_request(hu=zeros(1, 3, 0, 3)),
    "spacing of two numbers": roi_request(spacing_mm=zeros(1, 2, dtype=np.float64)),
    "spacing that would fill the memory": roi_request(spacing_mm=repeat(1.0, (2**27, 3), "float64")),
    "100,000 dimensions": patch_request({"hu": repeat(0.0, (2**62,) * 100_000, "float32")}),
    "100,000 dimensions of one voxel": patch_request({"hu": repeat(0.0, (1,) * 100_000, "float32")}),
    "no voxel and then too many": patch_request({"hu": repeat(0.0, (0, 2**62, 2**62, 2**62, 2**62), "float32")}),
    "a hundred patches from one value": patch_request({"hu": repeat(0.0, (100, 32, 32, 32, 1), "float32")}),
    "a region of gigabytes from one value": roi_request(hu=repeat(0.0, (1, 700, 700, 700), "float32")),
    "a hundred tiny regions": roi_request(
        hu=repeat(0.0, (100, 1, 1, 1), "float32"),
        spacing_mm=repeat(1.0, (100, 3), "float64"),
        center_index=repeat(0.0, (100, 3), "float64"),
    ),
    "unknown type": patch_request({"hu": with_type(999)}),
    "negative type": patch_request({"hu": with_type(-5)}),
    "a type of references": patch_request({"hu": with_type(101)}),
    "20,000 inputs": patch_request({str(number): zeros(0) for number in range(20_000)}),
    "100,000 outputs": patch_request(output_filter=[str(number) for number in range(100_000)]),
    "metadata of 10,000 fields": metadata_request([str(number) for number in range(10_000)]),
    "status of a name of 100 kB": status_request(name="n" * 100_000),
    "spacing of floats": roi_request(spacing_mm=zeros(1, 3)),
    "two spacings for one region": roi_request(spacing_mm=zeros(2, 3, dtype=np.float64)),
    "metadata without model spec": get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]),
    "metadata without field, before the name": metadata_request((), name="other"),
    "metadata of an unknown field": metadata_request(("x",)),
    "status without model spec": get_model_status_pb2.GetModelStatusRequest(),
}
REFUSED = {case: (request, "INVALID_ARGUMENT") for case, request in INVALID.items()} | {
    "other model, before the signature": (patch_request(name="other", signature="x"), "NOT_FOUND"),
    "other model's version": (patch_request(name="other", version=2), "NOT_FOUND"),
    "other version": (patch_request(version=7), "NOT_FOUND"),
    "version 0": (patch_request(version=0), "NOT_FOUND"),
    "other signature, before the inputs": (patch_request({}, signature="x"), "FAILED_PRECONDITION"),
    "signature without requests": (patch_request({}, signature="__saved_model_init_op"), "INTERNAL"),
    "metadata of another model": (metadata_request(name="other"), "NOT_FOUND"),
    "status of another model": (status_request(name="other"), "NOT_FOUND"),
    "status of another version": (status_request(version=9), "NOT_FOUND"),
    "another method": (classification_pb2.ClassificationRequest(), "UNIMPLEMENTED"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_request_has_the_status_code_of_tensorflow_serving(case, send, caplog):
    request, code = REFUSED[case]
    start = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        send(request)
    assert caught.value.code().name == code
    assert time.monotonic() - start < 5
    assert not caplog.records


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (patch_request(output_filter=["mask", "mask"], inputs=DOUBLE), "output_filter"),
        (patch_request({"hu": zeros(7, dtype=np.float64)}), "DT_DOUBLE"),
        (roi_request(hu=zeros(5), spacing_mm=zeros(2, 3, dtype=np.float64)), "[5]"),
        (patch_request({"hu": zeros(1, 32, 32, 16, 1)}), "[1,32,32,16,1]"),
    ],
    ids=["outputs before types", "types before shapes", "shapes before N", "expected and received shape"],
)
def test_the_message_names_the_first_thing_that_is_wrong(request_, named, send):
    with pytest.raises(grpc.RpcError) as caught:
        send(request_)
    assert named in caught.value.details()


def test_a_message_for_the_client_has_no_control_characters(send):
    with pytest.raises(grpc.RpcError) as caught:
        send(patch_request(name="g\x1b[31m\n\r\0\u202e"))
    assert caught.value.details() == "Model g?[31m???? is not served here."


def test_a_message_for_the_client_is_short(send):
    with pytest.raises(grpc.RpcError) as caught:
        send(patch_request(name="n" * 2000))
    assert len(caught.value.details()) == 1024


def test_a_response_has_typed_fields_and_name_version_and_signature(send):
    response = send(patch_request())
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("ggn", 1, "serving_default")
    assert len(response.outputs["mask"].float_val) == 32**3
    assert not response.outputs["mask"].tensor_content
    assert response.outputs["class_names"].string_val[:] == [b"AAH+AIS", b"MIA", b"IAC"]


def test_version_and_outputs_can_be_chosen(send):
    response = send(patch_request(version=1, output_filter=["probabilities"]))
    assert response.model_spec.version.value == 1
    assert set(response.outputs) == {"probabilities"}


@pytest.mark.parametrize("values", [[-500.0] * 32**3, [-500.0]], ids=["float_val", "one value fills the tensor"])
def test_all_encodings_are_read_alike(values, send):
    plain = tf.make_tensor_proto(np.full(PATCH, -500, np.float32))
    assert plain.tensor_content
    fields = zeros(*PATCH)
    fields.ClearField("tensor_content")
    del fields.float_val[:]
    fields.float_val.extend(values)
    responses = [decode(send(patch_request({"hu": hu})).outputs["probabilities"]) for hu in (plain, fields)]
    np.testing.assert_array_equal(*responses)


def test_a_message_over_grpcs_default_of_4_mib_is_accepted(send):
    request = patch_request({"hu": zeros(33, 32, 32, 32, 1)}, output_filter=["probabilities"])
    assert request.ByteSize() > 4 * 2**20
    assert decode(send(request, 60).outputs["probabilities"]).shape == (33, 3)


def test_a_deadline_that_is_too_short_is_reported(send):
    with pytest.raises(grpc.RpcError) as caught:
        send(patch_request({"hu": tf.make_tensor_proto(0.0, shape=(64, 32, 32, 32, 1))}), 0.02)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_message_over_8_mib_is_refused(send):
    with pytest.raises(grpc.RpcError) as caught:
        send(patch_request({"hu": zeros(65, 32, 32, 32, 1)}))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_metadata_contain_the_signature(send):
    response = send(metadata_request())
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert (response.model_spec.name, response.model_spec.version.value) == ("ggn", 1)
    signature = signatures.signature_def["serving_default"]
    assert set(signature.inputs) == {"hu"}
    assert set(signature.outputs) == {"probabilities", "mask", "class_names", "warning"}
    assert signature.method_name == "tensorflow/serving/predict"


@pytest.mark.parametrize("version", [None, 1])
def test_status_reports_the_available_version(version, send):
    (status,) = send(status_request(version=version)).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, 30, 0)


def test_a_request_of_several_parts_equals_its_patches(exported, tiny):
    patches = sample_patches(tiny.patch, 19, seed=3)
    with LocalModel(exported) as model:
        whole = model.predict(patches)
        single = [model.predict(patch[np.newaxis]) for patch in patches]
    np.testing.assert_allclose(whole.probabilities, np.concatenate([one.probabilities for one in single]), atol=1e-6)
    np.testing.assert_allclose(whole.mask, np.concatenate([one.mask for one in single]), atol=1e-5)
    assert whole.warnings == tuple(one.warnings[0] for one in single)
