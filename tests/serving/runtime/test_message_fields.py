"""Messages whose objects would take a hundred times their bytes."""

import time

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2

from ggn_tf.serving.contract.messages import Regions, make_request, make_roi_request
from ggn_tf.serving.contract.tensors import encode_fields
from ggn_tf.serving.runtime.message_fields import check_fields


def part(number: int, content: bytes) -> bytes:
    """A field of bytes or of a message."""
    length, prefix = len(content), bytearray()
    while length > 127:
        prefix.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *prefix, length]) + content


def of_tensor(content: bytes) -> bytes:
    return part(2, part(1, b"hu") + part(2, content))


PATCH = np.zeros((2, 32, 32, 32, 1), np.float32)
REGION = Regions(np.zeros((1, 9, 9, 9)), np.ones((1, 3)), np.ones((1, 3)))


def typed() -> predict_pb2.PredictRequest:
    request = make_request(PATCH, "ggn")
    request.inputs["hu"].CopyFrom(encode_fields(PATCH))
    return request


@pytest.mark.parametrize("request_", [make_request(PATCH, "ggn"), make_roi_request(REGION, "ggn"), typed()])
def test_requests_of_clients_are_accepted(request_: predict_pb2.PredictRequest) -> None:
    check_fields(request_.SerializeToString())


def test_numbers_may_be_unpacked() -> None:
    check_fields(of_tensor(part(2, b"") + b"\x2d\0\0\0\0" * 32**3))


HOSTILE = {
    "dimensions": of_tensor(part(2, b"\x12\x00" * 10**6)),
    "resource handles": of_tensor(b"\x72\x00"),
    "variants with tensors": of_tensor(part(15, part(3, b"\x72\x00" * 10**6))),
    "texts": of_tensor(b"\x42\x00" * 10**6),
    "unpacked numbers": of_tensor(b"\x2d\0\0\0\0" * 10**6),
    "entries": b"\x12\x00" * 10**6,
    "names of outputs": b"\x1a\x00" * 10**6,
    "unknown fields": b"\xc0\x3e\x01" * 10**6,
    "groups": b"\x0b" * 10**6,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_others_are_refused_soon(name: str) -> None:
    begun = time.process_time()
    with pytest.raises(ValueError, match="field"):
        check_fields(HOSTILE[name])
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("message", [b"\xff" * 100, b"\x12", b"\x12\x05\x0a"])
def test_what_ends_within_a_field_is_left_to_protobuf(message: bytes) -> None:
    check_fields(message)
    with pytest.raises(DecodeError):
        predict_pb2.PredictRequest.FromString(message)
