"""Scores on another site's nodules minus those on a run's own test set."""

import numpy as np
import pandas as pd

from ggn_tf.evaluation.statistics.bootstrap import draw_weights, percentile_interval
from ggn_tf.evaluation.statistics.predictions_table import EXTERNAL
from ggn_tf.evaluation.statistics.run_scores import SiteDifference
from ggn_tf.evaluation.statistics.scores import resampled_scores, score_values


def differences(frame: pd.DataFrame, seed: int, replicates: int) -> list[SiteDifference]:
    """External scores minus test scores, with bootstrap intervals over the patients of both sites.

    Args:
        frame: The predictions of one run, of the sets `test` and `external`.
        seed: Seed of the bootstrap.
        replicates: Number of bootstrap replicates.

    Returns:
        One difference per stage and score that both sets have. The patients of the two sites are drawn separately; the
        interval's levels are widened for the number of patients of the smaller site.
    """
    rows = []
    for stage, part in frame.groupby("stage", sort=False):
        sites = [part[part["set"] == name] for name in ("test", EXTERNAL)]
        if any(site.empty for site in sites):
            # A small split can have no test nodule of the task.
            continue
        patients = min(int(site["patient"].nunique()) for site in sites)
        values = [score_values(site) for site in sites]
        drawn = [
            resampled_scores(site, draw_weights(site["patient"].to_numpy(dtype=str), replicates, seed + number))
            for number, site in enumerate(sites)
        ]
        for metric in values[0]:
            test, external = (value[metric][0] for value in values)
            spread = drawn[1][metric] - drawn[0][metric]
            spread = spread[~np.isnan(spread)]
            if test is None or external is None or spread.size == 0:
                continue
            low, high = percentile_interval(spread, patients)
            rows.append(SiteDifference(str(stage), metric, test, external, external - test, low, high))
    return rows
