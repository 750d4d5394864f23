"""Tensors on the wire: `TensorProto` to NumPy and back, in microseconds per patch."""

import importlib
import math
from typing import Any

import numpy as np
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

LARGEST_BYTES = 2**31 - 1
"""No message can be larger: a declared shape alone must not make us reserve memory."""
_MOST_DIMENSIONS = 8

TYPES = {"float32": types_pb2.DT_FLOAT, "float64": types_pb2.DT_DOUBLE, "string": types_pb2.DT_STRING}
_NUMBERS = {types_pb2.DT_FLOAT: ("<f4", "float_val"), types_pb2.DT_DOUBLE: ("<f8", "double_val")}
"""Element type and typed field."""

_PACKED = {
    np.dtype(np.float32): (types_pb2.DT_FLOAT, bytes([5 << 3 | 2])),
    np.dtype(np.float64): (types_pb2.DT_DOUBLE, bytes([6 << 3 | 2])),
}
"""`float_val` and `double_val` are the fields 5 and 6 of TensorProto, packed."""


def shape_of(proto: tensor_pb2.TensorProto, largest_bytes: int = LARGEST_BYTES) -> tuple[int, ...]:
    """The declared shape, in a time that does not depend on the message.

    Raises:
        ValueError: The rank is unknown or above 8, a size is negative, or the tensor is larger than `largest_bytes`.
    """
    rank = len(proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or rank > _MOST_DIMENSIONS:
        raise ValueError(f"{rank} dimensions")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    most = largest_bytes // _bytes_each(proto.dtype)
    # Each size is compared before it is multiplied.
    if any(not 0 <= size <= most for size in shape) or math.prod(shape) > most:
        raise ValueError(f"shape {list(shape)}")
    return shape


def leads_with_batch(info: meta_graph_pb2.TensorInfo) -> bool:
    """Whether the first dimension of a signature's tensor is open, so that it has one row per item of a batch."""
    return [dim.size for dim in info.tensor_shape.dim[:1]] == [-1]


def _bytes_each(dtype: int) -> int:
    """Size of an element in memory; for a string, of the reference to it."""
    if dtype in _NUMBERS:
        return np.dtype(_NUMBERS[dtype][0]).itemsize
    if dtype == types_pb2.DT_STRING:
        return 8
    try:
        return _tensorflow().as_dtype(dtype).size or 8
    except TypeError:
        return 8


def _tensorflow() -> Any:
    """For the types that only models of other programs have."""
    return importlib.import_module("tensorflow")


def decode(proto: tensor_pb2.TensorProto, largest_bytes: int = LARGEST_BYTES) -> np.ndarray:
    """A tensor as NumPy array, by TensorFlow's rules: if values are missing, the last is repeated, or zero if none.

    Raises:
        ValueError: The message contradicts itself, or declares more than `largest_bytes`.
    """
    shape = shape_of(proto, largest_bytes)
    if proto.dtype in _NUMBERS:
        kind, field = _NUMBERS[proto.dtype]
        content = proto.tensor_content
        if content:
            return np.frombuffer(content, kind).reshape(shape)
        return _filled(np.array(getattr(proto, field)[: math.prod(shape)], kind), shape)
    if proto.dtype == types_pb2.DT_STRING:
        return _filled(np.array(proto.string_val[: math.prod(shape)], object), shape)
    try:
        return np.asarray(_tensorflow().make_ndarray(proto))
    except (TypeError, IndexError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _filled(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    count = math.prod(shape)
    if values.size < count:
        last = values[-1:] if values.size else np.zeros(1, values.dtype)
        values = np.concatenate([values, np.repeat(last, count - values.size)])
    return values[:count].reshape(shape)


def encode_content(values: np.ndarray, dtype: str) -> tensor_pb2.TensorProto:
    """A numeric array as `tensor_content` of `float32` or `float64`, the fast encoding that our client sends."""
    proto = tensor_pb2.TensorProto(dtype=TYPES[dtype], tensor_shape=_shape_proto(values.shape))
    proto.tensor_content = np.ascontiguousarray(values, _NUMBERS[proto.dtype][0]).tobytes()
    return proto


def encode_fields(values: np.ndarray) -> tensor_pb2.TensorProto:
    """An array in typed fields, as TensorFlow Serving sends it: some clients decode nothing else.

    Appending to `float_val` takes 0.7 ms per patch from a list and 4 ms from an array. A packed field's bytes are the
    little-endian floats themselves: writing these and letting protobuf parse them takes 0.01 ms.
    """
    if values.dtype in _PACKED:
        dtype, tag = _PACKED[values.dtype]
        content = np.ascontiguousarray(values, _NUMBERS[dtype][0]).tobytes()
        proto = tensor_pb2.TensorProto(dtype=dtype, tensor_shape=_shape_proto(values.shape))
        proto.MergeFromString(b"".join((tag, _varint(len(content)), content)))
        return proto
    if values.dtype == object:
        return tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, tensor_shape=_shape_proto(values.shape), string_val=values.ravel().tolist()
        )
    return _tensorflow().make_tensor_proto(values)


def repeat(value: float, shape: tuple[int, ...], dtype: str) -> tensor_pb2.TensorProto:
    """A constant `float32` or `float64` tensor in a few bytes: by the rules of `decode`, one value fills the shape."""
    proto = tensor_pb2.TensorProto(dtype=TYPES[dtype], tensor_shape=_shape_proto(shape))
    getattr(proto, _NUMBERS[proto.dtype][1]).append(value)
    return proto


def _shape_proto(shape: tuple[int, ...]) -> tensor_shape_pb2.TensorShapeProto:
    return tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape])


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])
