"""Requests and responses of TensorFlow Serving's protocol, and the prediction that a program reads from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tensorflow_serving.apis import predict_pb2

from ggn_tf.errors import ServingError
from ggn_tf.serving.contract import tensors
from ggn_tf.serving.contract.names import (
    DTYPES,
    INPUT_CENTER,
    INPUT_HU,
    INPUT_SPACING,
    OUTPUT_CLASS_NAMES,
    OUTPUT_MASK,
    OUTPUT_PROBABILITIES,
    OUTPUT_WARNING,
    OUTPUTS,
    SIGNATURE,
    SIGNATURE_ROI,
)
from ggn_tf.serving.contract.region_axes import Regions


@dataclass(frozen=True)
class Prediction:
    """The model's prediction for a batch of patches.

    Attributes:
        probabilities: [N, C] float32, in the order of `class_names`.
        mask: [N, 32, 32, 32, 1] float32, 0 to 1, axes S, P, L.
        class_names: [C].
        model_version: The version that predicted.
        warnings: [N], why a prediction may be unreliable: lines `code: text`, empty without a reason.
    """

    probabilities: np.ndarray
    mask: np.ndarray
    class_names: tuple[str, ...]
    model_version: int
    warnings: tuple[str, ...] = ()


def make_request(hu: np.ndarray, model_name: str) -> predict_pb2.PredictRequest:
    """A request for patches, to the newest version.

    Args:
        hu: [N, 32, 32, 32, 1], Hounsfield units, axes S, P, L.
        model_name: Name of the model on the server.
    """
    return _request(model_name, SIGNATURE, {INPUT_HU: hu})


def make_roi_request(regions: Regions, model_name: str) -> predict_pb2.PredictRequest:
    """A request for regions of a CT, from which the graph cuts the patches, to the newest version.

    Args:
        regions: In the model's order of axes.
        model_name: Name of the model on the server.
    """
    inputs = {INPUT_HU: regions.hu, INPUT_SPACING: regions.spacing_mm, INPUT_CENTER: regions.center_index}
    return _request(model_name, SIGNATURE_ROI, inputs)


def _request(model_name: str, signature: str, inputs: dict[str, np.ndarray]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model_name, signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tensors.encode_content(values, DTYPES[name]))
    return request


def read_response(response: predict_pb2.PredictResponse, mask_shape: tuple[int, ...]) -> Prediction:
    """Read a response and check it against the contract.

    Args:
        response: The response to a request of either signature.
        mask_shape: (N, S, S, S, 1), the expected shape of the mask.

    Raises:
        ServingError: An output is missing or damaged, or its shape does not fit the request.
    """
    if not set(OUTPUTS) <= set(response.outputs):
        raise _unexpected(response, "an output is missing")
    try:
        arrays = {name: tensors.decode(response.outputs[name]) for name in OUTPUTS}
    except ValueError as error:
        raise _unexpected(response, str(error)) from error
    probabilities, mask = arrays[OUTPUT_PROBABILITIES], arrays[OUTPUT_MASK]
    names, warnings = arrays[OUTPUT_CLASS_NAMES], arrays[OUTPUT_WARNING]
    fits = mask.shape == mask_shape and probabilities.shape[:1] == warnings.shape == mask_shape[:1]
    if not fits or probabilities.ndim != 2 or names.shape != probabilities.shape or (names != names[:1]).any():
        raise _unexpected(response, ", ".join(f"{name} {array.shape}" for name, array in arrays.items()))
    return Prediction(
        probabilities,
        mask,
        tuple(name.decode("utf-8") for name in names[0]),
        response.model_spec.version.value,
        tuple(warning.decode("utf-8") for warning in warnings),
    )


def join(parts: Sequence[Prediction]) -> Prediction:
    """Consecutive predictions of one version as a single one."""
    return Prediction(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.mask for part in parts]),
        parts[0].class_names,
        parts[0].model_version,
        tuple(warning for part in parts for warning in part.warnings),
    )


def _unexpected(response: predict_pb2.PredictResponse, found: str) -> ServingError:
    return ServingError(
        "The model's response does not follow the contract.",
        case=f"model {response.model_spec.name}, version {response.model_spec.version.value}",
        found=f"{found}; outputs {', '.join(sorted(response.outputs))}",
        expected=f"{OUTPUT_PROBABILITIES} [N,C], {OUTPUT_MASK} [N,S,S,S,1], {OUTPUT_CLASS_NAMES} [N,C], "
        f"{OUTPUT_WARNING} [N]",
        remedy="Serve a model that ggn-tf export wrote.",
    )
