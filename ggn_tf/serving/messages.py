"""A question and its answer, as a program sees them and as messages of TensorFlow Serving's protocol."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tensorflow_serving.apis import predict_pb2

from ggn_tf.errors import ServingError
from ggn_tf.serving import tensors
from ggn_tf.serving.contract import INPUT_HU, OUTPUT_CLASS_NAMES, OUTPUT_MASK, OUTPUT_PROBABILITIES, SIGNATURE


@dataclass(frozen=True)
class Prediction:
    """What the model says of a batch of patches.

    Attributes:
        probabilities: [N, C] float32, in the order of `class_names`.
        mask: [N, S, S, S, 1] float32, 0 to 1, axes z, y, x.
        class_names: [C].
        model_version: The version that answered.
    """

    probabilities: np.ndarray
    mask: np.ndarray
    class_names: tuple[str, ...]
    model_version: int


def make_request(hu: np.ndarray, model_name: str) -> predict_pb2.PredictRequest:
    """Ask the newest version about patches.

    Args:
        hu: [N, S, S, S, 1], Hounsfield units, axes z, y, x.
        model_name: As the server calls the model.
    """
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = SIGNATURE
    request.inputs[INPUT_HU].CopyFrom(tensors.encode_content(hu))
    return request


def read_response(response: predict_pb2.PredictResponse, hu: np.ndarray) -> Prediction:
    """Read an answer, and hold it to the contract.

    Args:
        response: The answer to `make_request(hu, ...)`.
        hu: The patches that were sent, [N, S, S, S, 1].

    Raises:
        ServingError: An output is missing or damaged, or its shape does not fit the question.
    """
    wanted = (OUTPUT_PROBABILITIES, OUTPUT_MASK, OUTPUT_CLASS_NAMES)
    if not set(wanted) <= set(response.outputs):
        raise _other_answer(response, "an output is missing")
    try:
        probabilities, mask, names = (tensors.decode(response.outputs[name]) for name in wanted)
    except ValueError as error:
        raise _other_answer(response, str(error)) from error
    fits = mask.shape == hu.shape and probabilities.ndim == 2 and len(probabilities) == len(hu)
    if not fits or names.shape != probabilities.shape or (names != names[:1]).any():
        raise _other_answer(response, f"probabilities {probabilities.shape}, mask {mask.shape}, names {names.shape}")
    class_names = tuple(name.decode("utf-8") for name in names[0])
    return Prediction(probabilities, mask, class_names, response.model_spec.version.value)


def join(parts: Sequence[Prediction]) -> Prediction:
    """The answers to consecutive chunks as one; all of the same version."""
    first = parts[0]
    return Prediction(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.mask for part in parts]),
        first.class_names,
        first.model_version,
    )


def _other_answer(response: predict_pb2.PredictResponse, found: str) -> ServingError:
    return ServingError(
        "The model's answer is not what the contract says.",
        case=f"model {response.model_spec.name}, version {response.model_spec.version.value}",
        found=f"{found}; outputs {', '.join(sorted(response.outputs))}",
        expected=f"{OUTPUT_PROBABILITIES} [N,C], {OUTPUT_MASK} like the input, {OUTPUT_CLASS_NAMES} [N,C]",
        remedy="Serve a model that ggn-tf export wrote.",
    )
