"""Every answer of Predict, GetModelMetadata and GetModelStatus, asked with the official stubs."""

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

ONE = np.zeros((1, 32, 32, 32, 1), np.float32)


def float_tensor(*shape):
    return tf.make_tensor_proto(np.zeros(shape, np.float32))


def double_tensor(*shape):
    return tf.make_tensor_proto(np.zeros(shape, np.float64))


def asking(name="ggn", signature="", version=None, label=None, inputs=None, output_filter=()):
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for alias, tensor in ({"hu": tf.make_tensor_proto(ONE)} if inputs is None else inputs).items():
        request.inputs[alias].CopyFrom(tensor)
    return request


def asking_about_a_region(**changed):
    plain = {"hu": float_tensor(1, 3, 3, 3), "spacing_mm": double_tensor(1, 3), "center_index": double_tensor(1, 3)}
    return asking(signature="roi", inputs=plain | changed)


def contradicting():
    tensor = float_tensor(1, 32, 32, 32, 1)
    tensor.tensor_content = b"1234"
    return tensor


@pytest.fixture(scope="module")
def predictions(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


REFUSED = {
    "no model spec": (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "no name": (asking(name=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "label": (asking(label="stable"), "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
    "other model": (asking(name="other"), "NOT_FOUND", "Servable not found for request: Latest(other)"),
    "other model's version": (
        asking(name="other", version=2),
        "NOT_FOUND",
        "Servable not found for request: Specific(other, 2)",
    ),
    "other version": (asking(version=7), "NOT_FOUND", "Servable not found for request: Specific(ggn, 7)"),
    "version 0": (asking(version=0), "NOT_FOUND", "Servable not found for request: Specific(ggn, 0)"),
    "other signature": (asking(signature="x"), "FAILED_PRECONDITION", 'Serving signature key "x" not found.'),
    "no signature for requests": (
        asking(signature="__saved_model_init_op"),
        "INTERNAL",
        "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
        "tensorflow/serving/classify, tensorflow/serving/regress}. Was: ",
    ),
    "too many inputs": (
        asking(inputs={"a": float_tensor(1), "b": float_tensor(1)}),
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({a,b}) != len({hu}). Sent extra: {a,b}. "
        "Missing but required: {hu}.",
    ),
    "no inputs": (
        asking(inputs={}),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({hu}). Sent extra: {}. Missing but required: {hu}.",
    ),
    "wrong input name": (
        asking(inputs={"x": float_tensor(1)}),
        "INVALID_ARGUMENT",
        "Signature input alias: hu(feed name: serving_default_hu:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {x}, or default input alias set: ",
    ),
    "content that contradicts its shape": (
        asking(inputs={"hu": contradicting()}),
        "INVALID_ARGUMENT",
        "tensor parsing error: hu",
    ),
    "an empty message for a tensor": (
        asking(inputs={"hu": tf.make_tensor_proto(ONE).__class__()}),
        "INVALID_ARGUMENT",
        "tensor parsing error: hu",
    ),
    "unknown output": (
        asking(output_filter=["z"]),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set "
        "{class_names,mask,probabilities,warning}.",
    ),
    "output twice": (
        asking(output_filter=["mask", "mask"]),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: mask",
    ),
    "double": (
        asking(inputs={"hu": tf.make_tensor_proto(ONE.astype(np.float64))}),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but double is provided",
    ),
    "half": (
        asking(inputs={"hu": tf.make_tensor_proto(ONE.astype(np.float16))}),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but half is provided",
    ),
    "string": (
        asking(inputs={"hu": tf.make_tensor_proto(b"patch")}),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but string is provided",
    ),
    "unknown output before wrong type": (
        asking(inputs={"hu": tf.make_tensor_proto(1)}, output_filter=["mask", "mask"]),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: mask",
    ),
    "rank 4": (
        asking(inputs={"hu": float_tensor(32, 32, 32, 1)}),
        "INVALID_ARGUMENT",
        "input hu: expected shape [N,32,32,32,1] with N at least 1, received [32,32,32,1]",
    ),
    "another size": (
        asking(inputs={"hu": float_tensor(1, 32, 32, 16, 1)}),
        "INVALID_ARGUMENT",
        "input hu: expected shape [N,32,32,32,1] with N at least 1, received [1,32,32,16,1]",
    ),
    "an empty batch": (
        asking(inputs={"hu": float_tensor(0, 32, 32, 32, 1)}),
        "INVALID_ARGUMENT",
        "input hu: expected shape [N,32,32,32,1] with N at least 1, received [0,32,32,32,1]",
    ),
    "a region without rows": (
        asking_about_a_region(hu=float_tensor(1, 3, 0, 3)),
        "INVALID_ARGUMENT",
        "input hu: expected shape [N,D,H,W] with N at least 1, received [1,3,0,3]",
    ),
    "a spacing of two numbers": (
        asking_about_a_region(spacing_mm=double_tensor(1, 2)),
        "INVALID_ARGUMENT",
        "input spacing_mm: expected shape [N,3] with N at least 1, received [1,2]",
    ),
    "two spacings for one region": (
        asking_about_a_region(spacing_mm=double_tensor(2, 3)),
        "INVALID_ARGUMENT",
        "inputs of different N: center_index 1, hu 1, spacing_mm 2",
    ),
    "a spacing that would fill the memory": (
        asking_about_a_region(spacing_mm=repeat(1.0, (2**27, 3), "float64")),
        "INVALID_ARGUMENT",
        "tensor parsing error: spacing_mm",
    ),
    "a spacing of floats": (
        asking_about_a_region(spacing_mm=float_tensor(1, 3)),
        "INVALID_ARGUMENT",
        "Expects arg[2] to be double but float is provided",
    ),
    "a shape larger than any message": (
        asking(inputs={"hu": tf.make_tensor_proto(0.0, shape=(1,))}),
        "INVALID_ARGUMENT",
        "tensor parsing error: hu",
    ),
    "a long message": (
        asking(name="n" * 2000),
        "NOT_FOUND",
        ("Servable not found for request: Latest(" + "n" * 2000)[:1024] + "...TRUNCATED",
    ),
}
huge = REFUSED["a shape larger than any message"][0].inputs["hu"].tensor_shape
for size in (32, 32, 32, 1):
    huge.dim.add(size=size)
huge.dim[0].size = 10**9


@pytest.mark.parametrize("case", REFUSED)
def test_predict_refuses_in_the_real_servers_words(case, predictions):
    request, code, message = REFUSED[case]
    with pytest.raises(grpc.RpcError) as caught:
        predictions.Predict(request, timeout=10)
    assert (caught.value.code().name, caught.value.details()) == (code, message)


def test_predict_answers_in_typed_fields_with_name_version_and_signature(predictions):
    response = predictions.Predict(asking(), timeout=10)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("ggn", 1, "serving_default")
    assert len(response.outputs["mask"].float_val) == 32**3
    assert not response.outputs["mask"].tensor_content
    assert response.outputs["class_names"].string_val[:] == [b"AAH+AIS", b"MIA", b"IAC"]


def test_predict_answers_a_version_by_number(predictions):
    assert predictions.Predict(asking(version=1), timeout=10).model_spec.version.value == 1


def test_predict_answers_the_filtered_outputs_only(predictions):
    assert set(predictions.Predict(asking(output_filter=["probabilities"]), timeout=10).outputs) == {"probabilities"}


@pytest.mark.parametrize("values", [[-500.0] * 32**3, [-500.0]], ids=["float_val", "one value fills the tensor"])
def test_predict_reads_every_encoding_alike(values, predictions):
    plain = tf.make_tensor_proto(np.full((1, 32, 32, 32, 1), -500, np.float32))
    assert plain.tensor_content
    fields = float_tensor(1, 32, 32, 32, 1)
    fields.ClearField("tensor_content")
    del fields.float_val[:]
    fields.float_val.extend(values)
    answers = [
        decode(predictions.Predict(asking(inputs={"hu": tensor}), timeout=10).outputs["probabilities"])
        for tensor in (plain, fields)
    ]
    np.testing.assert_array_equal(*answers)


def test_a_message_over_grpcs_default_of_4_mib_is_taken(predictions, channel):
    request = asking(inputs={"hu": float_tensor(33, 32, 32, 32, 1)}, output_filter=["probabilities"])
    assert request.ByteSize() > 4 * 2**20
    assert decode(predictions.Predict(request, timeout=60).outputs["probabilities"]).shape == (33, 3)


def test_a_deadline_that_is_too_short_is_told_as_such(predictions):
    request = asking(inputs={"hu": tf.make_tensor_proto(0.0, shape=(100, 32, 32, 32, 1))})
    with pytest.raises(grpc.RpcError) as caught:
        predictions.Predict(request, timeout=0.05)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_what_is_not_served_is_unimplemented(predictions):
    with pytest.raises(grpc.RpcError) as caught:
        predictions.Classify(classification_pb2.ClassificationRequest(), timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def metadata_request(name="ggn", fields=("signature_def",)):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if name is not None:
        request.model_spec.name = name
    return request


def test_metadata_tells_the_signature(predictions):
    response = predictions.GetModelMetadata(metadata_request(), timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert (response.model_spec.name, response.model_spec.version.value) == ("ggn", 1)
    signature = signatures.signature_def["serving_default"]
    assert set(signature.inputs) == {"hu"}
    assert set(signature.outputs) == {"probabilities", "mask", "class_names", "warning"}
    assert signature.method_name == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (metadata_request(name=None), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (
            metadata_request(fields=()),
            "INVALID_ARGUMENT",
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (metadata_request(fields=("x",)), "INVALID_ARGUMENT", "Metadata field %s is not supportedx"),
        (metadata_request(name="other"), "NOT_FOUND", "Servable not found for request: Latest(other)"),
    ],
)
def test_metadata_refuses_in_the_real_servers_words(request_, code, message, predictions):
    with pytest.raises(grpc.RpcError) as caught:
        predictions.GetModelMetadata(request_, timeout=10)
    assert (caught.value.code().name, caught.value.details()) == (code, message)


def status_request(name="ggn", version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    if name is not None:
        request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return request


@pytest.mark.parametrize("version", [None, 1])
def test_status_tells_that_the_version_is_available(version, models):
    (status,) = models.GetModelStatus(status_request(version=version), timeout=10).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, 30, 0)


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (status_request(name=None), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (status_request(name="other"), "NOT_FOUND", "Could not find any versions of model other"),
        (status_request(version=9), "NOT_FOUND", "Could not find version 9 of model ggn"),
    ],
)
def test_status_refuses_in_the_real_servers_words(request_, code, message, models):
    with pytest.raises(grpc.RpcError) as caught:
        models.GetModelStatus(request_, timeout=10)
    assert (caught.value.code().name, caught.value.details()) == (code, message)
