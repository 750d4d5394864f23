"""Differences between a server's response and the recorded one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from tensorflow_serving.apis import predict_pb2

from ggn_tf.serving.contract.names import OUTPUT_CLASS_NAMES, OUTPUT_WARNING
from ggn_tf.serving.contract.tensors import decode
from ggn_tf.serving.contract.warning_texts import DENSE, LARGER_THAN_PATCH, NO_NODULE

# These depend on single voxels of the mask, which may differ within the mask's tolerance.
_MASK_WARNINGS = {kind.code for kind in (NO_NODULE, LARGER_THAN_PATCH, DENSE)}


@dataclass
class Comparison:
    """A response beside the recorded one.

    Attributes:
        drift: Differences that are not tolerated, for a person, each starting with the output's name.
        differences: Largest absolute difference by output that has a tolerance.
    """

    drift: list[str] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)


def compare_responses(
    response: predict_pb2.PredictResponse, recorded: predict_pb2.PredictResponse, tolerances: Mapping[str, float]
) -> Comparison:
    """Compare all recorded outputs.

    Args:
        response: The server's response.
        recorded: The export's own response.
        tolerances: Largest difference allowed, by output.
    """
    comparison = Comparison()
    for name in sorted(recorded.outputs):
        if name not in response.outputs:
            comparison.drift.append(f"{name} is missing")
            continue
        found, expected = decode(response.outputs[name]), decode(recorded.outputs[name])
        if found.shape != expected.shape or found.dtype != expected.dtype:
            comparison.drift.append(
                f"{name} is {found.dtype} {found.shape} instead of {expected.dtype} {expected.shape}"
            )
        elif name in tolerances:
            difference = comparison.differences[name] = float(np.max(np.abs(found - expected)))
            # A difference of NaN is drift, too.
            if not difference <= tolerances[name]:
                comparison.drift.append(f"{name} differs by {difference:.3g}")
        elif (name == OUTPUT_CLASS_NAMES and (found != expected).any()) or (
            name == OUTPUT_WARNING and list(map(_codes, found)) != list(map(_codes, expected))
        ):
            comparison.drift.append(f"{name}: {_text(found)} instead of {_text(expected)}")
    return comparison


def _codes(warning: bytes) -> set[str]:
    return {line.split(":")[0] for line in warning.decode("utf-8").splitlines()} - _MASK_WARNINGS


def _text(values: np.ndarray) -> str:
    return ", ".join(value.decode("utf-8") or "empty" for value in np.unique(values))
