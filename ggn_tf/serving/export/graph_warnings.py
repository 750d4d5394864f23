"""The output `warning`, computed inside the graph: why a prediction may be unreliable."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from ggn_tf.cases.lung_context import BELOW_AIR_HU, LEAST_LUNG, MOST_BELOW_AIR, NO_LUNG_HU
from ggn_tf.protocol import MASK_THRESHOLD
from ggn_tf.serving.contract.warning_texts import (
    BELOW_AIR,
    COARSE_SPACING,
    COARSEST_SPACING_MM,
    DENSE,
    DENSE_HU,
    LARGER_THAN_PATCH,
    MOST_DENSE,
    NO_LUNG,
    NO_NODULE,
    NOT_FINITE,
    PARTLY_OUTSIDE_CT,
    WarningKind,
)

_VOXELS = (1, 2, 3, 4)
# What was a 32-bit number may be 2.5000001.
_SPACING_TOLERANCE_MM = 1e-4


class RaisedWarning(NamedTuple):
    """A warning, and the patches of the batch that it applies to.

    Attributes:
        kind: Code and text.
        raised: [N] bool.
    """

    kind: WarningKind
    raised: tf.Tensor


def patch_warnings(hu: tf.Tensor, covered: tf.Tensor, mask: tf.Tensor) -> list[RaisedWarning]:
    """Check values and predicted mask.

    Args:
        hu: [N, S, S, S, 1] float32, Hounsfield units.
        covered: [N, S, S, S, 1] bool, where the CT has values.
        mask: [N, S, S, S, 1] float32, predicted mask of the nodule, 0 to 1.
    """
    measured = _count(covered)
    no_lung = _count(covered & (hu <= NO_LUNG_HU)) < LEAST_LUNG * measured
    nodule = mask >= MASK_THRESHOLD
    dense = _count(nodule & (hu > DENSE_HU)) > MOST_DENSE * _count(nodule)
    within = nodule[:, 1:-1, 1:-1, 1:-1]
    return [
        RaisedWarning(NOT_FINITE, ~tf.reduce_all(tf.math.is_finite(hu), _VOXELS)),
        RaisedWarning(NO_LUNG, no_lung),
        RaisedWarning(BELOW_AIR, _count(covered & (hu <= BELOW_AIR_HU)) >= MOST_BELOW_AIR * measured),
        # If the values are not Hounsfield units, density is no second finding.
        RaisedWarning(DENSE, dense & ~no_lung),
        RaisedWarning(NO_NODULE, ~tf.reduce_any(nodule, _VOXELS)),
        RaisedWarning(LARGER_THAN_PATCH, _count(nodule) > _count(within)),
    ]


def region_warnings(spacing_mm: tf.Tensor, covered: tf.Tensor) -> list[RaisedWarning]:
    """Check the geometry.

    Args:
        spacing_mm: [N, 3] float64.
        covered: [N, S, S, S, 1] bool, the patch's voxels inside the region.
    """
    return [
        RaisedWarning(PARTLY_OUTSIDE_CT, ~tf.reduce_all(covered, _VOXELS)),
        RaisedWarning(COARSE_SPACING, tf.reduce_max(spacing_mm, 1) > COARSEST_SPACING_MM + _SPACING_TOLERANCE_MM),
    ]


def warning_output(warnings: Sequence[RaisedWarning]) -> tf.Tensor:
    """All warnings of a patch as one text; without a prediction only those that explain why there is none.

    Returns:
        [N] string: lines `code: text`, empty without a warning.
    """
    predicted = has_prediction(warnings)
    lines = [tf.where(raised & (predicted | (not kind.predicted)), kind.line + "\n", "") for kind, raised in warnings]
    return tf.strings.strip(tf.strings.join(lines))


def has_prediction(warnings: Sequence[RaisedWarning]) -> tf.Tensor:
    """[N] bool: whether no warning withholds the prediction."""
    return ~tf.reduce_any(tf.stack([raised for kind, raised in warnings if not kind.predicted], axis=1), axis=1)


def _count(flags: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(flags, tf.float32), _VOXELS)
