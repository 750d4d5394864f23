"""Responses of servers whose numbers are not finite."""

import itertools

import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract.messages import Prediction, order_regions, read_response
from ggn_tf.serving.contract.tensors import encode_content
from ggn_tf.serving.contract.warning_texts import BAD_GEOMETRY, NO_LUNG, NOT_FINITE, WarningKind
from ggn_tf.serving.contract.wire import DTYPES

SHAPE = (2, 2, 2, 2, 1)


def answered(name: str, value: float, *warnings: WarningKind) -> Prediction:
    """A response whose second row has a value, and these warnings."""
    outputs = {
        "probabilities": np.full((2, 2), 0.5, np.float32),
        "mask": np.zeros(SHAPE, np.float32),
        "spread": np.zeros((2, 2), np.float32),
        "typicality": np.ones(2, np.float32),
        "class_names": np.array([[b"A", b"B"]] * 2, object),
        "warning": np.array([b"", "\n".join(kind.line for kind in warnings).encode()], object),
    }
    outputs[name][1] = value
    response = predict_pb2.PredictResponse()
    for alias, values in outputs.items():
        proto = response.outputs[alias]
        if values.dtype != object:
            proto.CopyFrom(encode_content(values, DTYPES[alias]))
            continue
        proto.dtype = 7
        proto.string_val[:] = values.ravel().tolist()
        for size in values.shape:
            proto.tensor_shape.dim.add().size = size
    return read_response(response, SHAPE)


@pytest.mark.parametrize("name", ["probabilities", "spread", "typicality"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("warnings", [(), (NO_LUNG,)])
def test_numbers_that_are_not_finite_are_refused(name: str, value: float, warnings: tuple[WarningKind, ...]) -> None:
    with pytest.raises(ServingError) as caught:
        answered(name, value, *warnings)
    assert "not finite" in str(caught.value.found)


@pytest.mark.parametrize("kind", [NOT_FINITE, BAD_GEOMETRY])
def test_a_row_without_a_prediction_has_none(kind: WarningKind) -> None:
    found = answered("probabilities", np.nan, NO_LUNG, kind)
    assert np.isnan(found.probabilities).any(axis=1).tolist() == [False, True]


def test_finite_numbers_are_read() -> None:
    assert answered("probabilities", 0.25).by_class(np.float32([0.25, 0.75])) == {"A": 0.25, "B": 0.75}


GENERATOR = np.random.default_rng(0)
HU = GENERATOR.random((2, 3, 4, 5))
SPACING_MM = GENERATOR.random((2, 3))
CENTER = np.array([[0.5, 1, 2], [1, 2.25, 4]])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("turned", list(itertools.product([False, True], repeat=3)))
def test_every_order_of_axes_becomes_spl(order: tuple[int, ...], turned: tuple[bool, ...]) -> None:
    axes = "".join(("SI", "PA", "LR")[axis][turned[axis]] for axis in order)
    flipped = np.flip(HU, [axis + 1 for axis in range(3) if turned[axis]])
    center = np.where(turned, np.array(HU.shape[1:]) - 1 - CENTER, CENTER)
    stored = flipped.transpose(0, *(axis + 1 for axis in order)), SPACING_MM[:, order], center[:, order]
    regions = order_regions(*stored, axes)
    for found, expected in zip(regions, (HU, SPACING_MM, CENTER), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axes", ["", "SP", "SPLL", "SSL", "SIL", "spl", "ZYX"])
def test_other_axes_are_refused(axes: str) -> None:
    with pytest.raises(ServingError) as caught:
        order_regions(HU, SPACING_MM, CENTER, axes)
    assert caught.value.arguments == ("axes",)
