"""The output `warning`: why an answer may be worth little, found inside the graph."""

from collections.abc import Sequence

import tensorflow as tf

from ggn_tf.protocol import MASK_THRESHOLD
from ggn_tf.serving.contract.warning_texts import (
    BELOW_AIR,
    BELOW_AIR_HU,
    COARSE_SPACING,
    COARSEST_SPACING_MM,
    DENSE,
    DENSE_HU,
    LARGER_THAN_PATCH,
    LEAST_LUNG,
    MOST_BELOW_AIR,
    MOST_DENSE,
    NO_LUNG,
    NO_LUNG_HU,
    NO_NODULE,
    NOT_FINITE,
    PARTLY_OUTSIDE_CT,
    WarningKind,
)

RaisedWarning = tuple[WarningKind, tf.Tensor]
"""A doubt, and bool [N]: in which patches there is reason for it."""

_VOXELS = (1, 2, 3, 4)
# What was a 32-bit number may be 2.5000001.
_SPACING_TOLERANCE_MM = 1e-4


def patch_warnings(hu: tf.Tensor, covered: tf.Tensor, mask: tf.Tensor) -> list[RaisedWarning]:
    """Look for reasons in values and mask.

    Args:
        hu: [N, S, S, S, 1] float32, Hounsfield units.
        covered: [N, S, S, S, 1] bool, where values were measured.
        mask: [N, S, S, S, 1] float32, what the model takes for the nodule, 0 to 1.
    """
    measured = _count(covered)
    no_lung = _count(covered & (hu <= NO_LUNG_HU)) < LEAST_LUNG * measured
    nodule = mask >= MASK_THRESHOLD
    dense = _count(nodule & (hu > DENSE_HU)) > MOST_DENSE * _count(nodule)
    within = nodule[:, 1:-1, 1:-1, 1:-1]
    return [
        (NOT_FINITE, ~tf.reduce_all(tf.math.is_finite(hu), _VOXELS)),
        (NO_LUNG, no_lung),
        (BELOW_AIR, _count(covered & (hu <= BELOW_AIR_HU)) >= MOST_BELOW_AIR * measured),
        # Where the values are not Hounsfield units, this would only be a conclusion from the same.
        (DENSE, dense & ~no_lung),
        (NO_NODULE, ~tf.reduce_any(nodule, _VOXELS)),
        (LARGER_THAN_PATCH, _count(nodule) > _count(within)),
    ]


def region_warnings(spacing_mm: tf.Tensor, covered: tf.Tensor) -> list[RaisedWarning]:
    """Look for reasons in the geometry.

    Args:
        spacing_mm: [N, 3] float64.
        covered: [N, S, S, S, 1] bool, the patch's voxels that the region reaches.
    """
    return [
        (PARTLY_OUTSIDE_CT, ~tf.reduce_all(covered, _VOXELS)),
        (COARSE_SPACING, tf.reduce_max(spacing_mm, 1) > COARSEST_SPACING_MM + _SPACING_TOLERANCE_MM),
    ]


def warning_output(found: Sequence[RaisedWarning]) -> tf.Tensor:
    """All reasons as one text for each patch.

    Where there is no answer, nothing else is told: it would be a conclusion from what is no number.

    Returns:
        [N] string: lines `code: text`, empty without a reason.
    """
    answered = is_answered(found)
    lines = [tf.where(there & (answered | (not doubt.answered)), doubt.line + "\n", "") for doubt, there in found]
    return tf.strings.strip(tf.strings.join(lines))


def is_answered(found: Sequence[RaisedWarning]) -> tf.Tensor:
    """[N] bool: whether there is no reason to withhold the answer."""
    return ~tf.reduce_any(tf.stack([there for doubt, there in found if not doubt.answered], axis=1), axis=1)


def _count(flags: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(flags, tf.float32), _VOXELS)
