"""Where an answer of a server is not the recorded one."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tensorflow_serving.apis import predict_pb2

from ggn_tf.serving.contract.names import OUTPUT_CLASS_NAMES, OUTPUT_WARNING
from ggn_tf.serving.contract.tensors import decode
from ggn_tf.serving.contract.warning_texts import DENSE, LARGER_THAN_PATCH, NO_NODULE

# What hangs on a mask's voxels may turn over within the mask's own tolerance.
_ABOUT_THE_MASK = {doubt.code for doubt in (NO_NODULE, LARGER_THAN_PATCH, DENSE)}


class Compared(NamedTuple):
    """An answer beside the recorded one.

    Attributes:
        drift: What is not as recorded, for a person, each with the output's name first.
        differences: By output that has a tolerance, how far a number lies off where it does most.
    """

    drift: list[str]
    differences: dict[str, float]


def compare_answers(
    response: predict_pb2.PredictResponse, recorded: predict_pb2.PredictResponse, tolerances: Mapping[str, float]
) -> Compared:
    """Hold an answer against the recorded one, output by output; outputs that were not recorded do not count.

    Args:
        response: The server's.
        recorded: The export's own.
        tolerances: By output, how far a number may lie off.
    """
    compared = Compared([], {})
    for name in sorted(recorded.outputs):
        if name not in response.outputs:
            compared.drift.append(f"{name} is missing")
            continue
        found, expected = decode(response.outputs[name]), decode(recorded.outputs[name])
        if found.shape != expected.shape or found.dtype != expected.dtype:
            told = f"is {found.dtype} {found.shape} instead of {expected.dtype} {expected.shape}"
            compared.drift.append(f"{name} {told}")
        elif name in tolerances:
            difference = compared.differences[name] = float(np.max(np.abs(found - expected)))
            # Written so that not-a-number is drift, too.
            if not difference <= tolerances[name]:
                compared.drift.append(f"{name} lies off by {difference:.3g}")
        elif name == OUTPUT_CLASS_NAMES and (found != expected).any():
            compared.drift.append(f"{name} are {_text(found)} instead of {_text(expected)}")
        elif name == OUTPUT_WARNING and list(map(_codes, found)) != list(map(_codes, expected)):
            compared.drift.append(f"{name} is {_text(found)} instead of {_text(expected)}")
    return compared


def _codes(warning: bytes) -> set[str]:
    return {line.split(":")[0] for line in warning.decode("utf-8").splitlines()} - _ABOUT_THE_MASK


def _text(values: np.ndarray) -> str:
    return ", ".join(value.decode("utf-8") or "empty" for value in np.unique(values))
