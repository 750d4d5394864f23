"""One AUC with its error, from the comparison with a constant score, whose AUC is 0.5 without error."""

import dataclasses

import numpy as np

from ggn_tf.evaluation.statistics.paired_tests import AucDifference, auc_difference


def auc_interval(positive: np.ndarray, score: np.ndarray, patients: np.ndarray | None = None) -> AucDifference:
    """The AUC as `value`, its interval, and p against 0.5."""
    found = auc_difference(positive, score, np.zeros(np.shape(positive)), patients)
    low, high = (None if end is None else end + 0.5 for end in (found.low, found.high))
    return dataclasses.replace(found, value=found.value + 0.5, low=low, high=high)
