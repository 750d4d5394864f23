"""How typical a nodule is of those on which a classifier was trained, as a p value.

The distance is Mahalanobis's, of the classifier's penultimate features from their mean over the training nodules (Lee
et al. 2018, with one mean for all classes, so that no class has to be predicted first). With 256 features and a few
hundred nodules the sample's covariance has no inverse; Ledoit and Wolf's (2004) shrinks it towards a multiple of the
identity.

Distances of nodules on which the classifier was trained are too small, so the p value is the rank among the distances
of held-out nodules (conformal anomaly detection, Laxhammar and Falkman 2010): of nodules that are exchangeable with
them, at most a share of p has a p value of p or less.
"""

import math
from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf

from ggn_tf.errors import GgnError


@dataclass(frozen=True)
class FeatureDistribution:
    """What a classifier's features of training nodules are like, and how far held-out nodules are from them.

    Attributes:
        mean: Mean over the training nodules, float64 [F].
        precision: Inverse of the shrunk covariance, float64 [F, F].
        held_out: Distances of held-out nodules, ascending, float64 [M].
    """

    mean: np.ndarray
    precision: np.ndarray
    held_out: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Mahalanobis distances [N] of features [N, F] from the mean."""
        return mahalanobis(features, self.mean, self.precision)

    def typicality(self, features: np.ndarray) -> np.ndarray:
        """The p values [N] of features [N, F]: (1 + number of held-out nodules at least as far) / (M + 1)."""
        nearer = np.searchsorted(self.held_out, self.distances(features), side="left")
        values: np.ndarray = (1 + len(self.held_out) - nearer) / (len(self.held_out) + 1)
        return values


def nodules_needed(level: float) -> int:
    """The fewest held-out nodules with which a p value can be below a level: 100 for 0.01."""
    return math.floor(1 / level + 1e-9)


def fit_distribution(trained: np.ndarray, held_out: np.ndarray) -> FeatureDistribution:
    """Fit the distribution of features.

    Takes the features of the nodules on which the classifier was trained [N, F], and of nodules of other patients [M,
    F].

    Raises:
        GgnError: There are fewer than two training nodules or no held-out nodule, or features are not finite or all
            equal.
    """
    problem = None
    if len(trained) < 2 or len(held_out) < 1:
        problem = f"{len(trained)} training nodules and {len(held_out)} held-out nodules"
    elif not (np.isfinite(trained).all() and np.isfinite(held_out).all()):
        problem = "features that are not finite"
    elif not np.ptp(trained, axis=0).any():
        problem = f"equal features for all {len(trained)} training nodules"
    if problem:
        raise GgnError(
            "The distribution of the classifier's features cannot be estimated.",
            found=problem,
            expected="two or more training nodules with different finite features, and a held-out nodule",
            remedy="Train another run; weights that are not finite, or a classifier that ignores its input, come from "
            "training that failed.",
        )
    fitted = LedoitWolf().fit(trained.astype(np.float64))
    distances = mahalanobis(held_out, fitted.location_, fitted.precision_)
    return FeatureDistribution(fitted.location_, fitted.precision_, np.sort(distances))


def mahalanobis(features: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Distances [N] of features [N, F] from a mean [F] with an inverse covariance [F, F]."""
    offset = features.astype(np.float64) - mean
    squared = np.einsum("nf,fg,ng->n", offset, precision, offset, optimize=True)
    return np.sqrt(np.maximum(squared, 0.0))
