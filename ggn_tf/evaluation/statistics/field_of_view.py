"""What the extent of the CT alone predicts: whether scores can be trusted at all.

Where a CT ends within a patch, the patch contains -1024 HU, which a network sees. If CTs were cropped at the nodule, or
nodules of one class are more often at the CT's ends, a network can classify by the padding.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.evaluation.statistics.bootstrap import LEVEL, Resampling, resample, resampled_auc
from ggn_tf.evaluation.statistics.predictions_table import table_classes
from ggn_tf.evaluation.statistics.run_scores import LAYERS, SHARE, ExtentScore

_EQUAL = 1e-12
_MEASURES: Mapping[str, Callable[[CaseRecord], float]] = {
    LAYERS: lambda case: case.covered_layers,
    SHARE: lambda case: round(case.covered_share, 9),
}


def score_extent(
    frame: pd.DataFrame, cases: Mapping[str, CaseRecord], set_name: str, seed: int, replicates: int
) -> list[ExtentScore]:
    """Score the extent of the CT as if it were a prediction.

    On the nodules of the set whose scores are in question: nothing is trained, but what the extent shows may differ
    between sets.

    Takes the predictions of one run, and the records of the set's nodules by id (`Dataset.case_by_id`).

    Returns:
        For each class against the rest, or of two classes for the second, the scores of both measures.
    """
    rows = frame[frame["set"] == set_name].drop_duplicates("case")
    if rows.empty:
        return []
    classes = table_classes(frame)
    positives = classes[1:] if len(classes) == 2 else classes
    resampling = resample(rows["patient"].to_numpy(dtype=str), replicates, seed)
    level = 1 - (1 - LEVEL) / len(positives)
    scores = []
    for class_name in positives:
        positive = (rows["label"] == class_name).to_numpy()
        for measure, measured in _MEASURES.items():
            extent = np.array([measured(cases[str(case)]) for case in rows["case"]], np.float64)
            value, interval, revealing = _scored(positive, extent, resampling, level)
            low, high = interval or (None, None)
            scores.append(ExtentScore(set_name, measure, str(class_name), value, low, high, revealing))
    return scores


def _scored(
    positive: np.ndarray, extent: np.ndarray, resampling: Resampling, level: float
) -> tuple[float | None, tuple[float, float] | None, bool]:
    """The area, its interval, and whether it differs from 0.5 in either direction."""
    resampled = resampled_auc(positive, extent, resampling.weights)
    if np.isnan(resampled[0]):
        return None, None, False
    value = float(resampled[0])
    if np.nanmax(resampled) - np.nanmin(resampled) < _EQUAL:
        # No padding, or perfect separation, which explains every score however few the patients are.
        return value, None, value in (0.0, 1.0)
    # As for differences: where only few patches are padded, BCa excludes 0.5 too often without any relation.
    low, high = resampling.difference_interval(resampled, level) or (0.0, 1.0)
    return value, (low, high), not low <= 0.5 <= high
