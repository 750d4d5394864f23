"""Temperature scaling of probabilities, fitted on the validation set (Guo et al. 2017)."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.predictions_table import (
    RUN_KEY,
    check_predictions,
    probabilities,
    probability_names,
    table_classes,
)
from ggn_tf.evaluation.statistics.scores import class_indices, gives_probabilities

# A softmax in float32 can be 0, whose logarithm is infinite.
SMALLEST = 1e-12
_TEMPERATURES = (0.05, 20.0)


def fit_temperature(probability: np.ndarray, label: np.ndarray) -> float:
    """The temperature that minimises the cross-entropy of a validation set.

    Args:
        probability: Probabilities [N, C]; their logarithms are used as logits.
        label: Class index [N].

    Returns:
        T in [0.05, 20]; above 1 where the probabilities are overconfident.
    """
    logits = np.log(np.maximum(probability, SMALLEST))

    def cross_entropy(log_temperature: float) -> float:
        logs = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-logs[np.arange(len(label)), label].mean())

    found = minimize_scalar(cross_entropy, bounds=np.log(_TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def apply_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [..., C] at another temperature; their order within a nodule does not change."""
    scaled: np.ndarray = softmax(np.log(np.maximum(probability, SMALLEST)) / temperature, axis=-1)
    return scaled


def scale_by_temperature(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scale every run and stage, fitted on its validation set and applied to all its sets.

    Args:
        frame: The predictions of one task; models, stages, splits and repeats as the rows say.

    Returns:
        The same table with scaled probabilities, and the temperatures: one row per run and stage that classifies, with
        columns model, split, repeat, stage, temperature.

    Raises:
        PredictionsError: The table is wrong, or a run has no validation set.
    """
    checked = check_predictions(frame)
    names = probability_names(table_classes(checked))
    scaled, temperatures = checked.copy(), []
    for key, rows in _classified(checked):
        validation = rows[rows["set"] == "validation"]
        if validation.empty:
            raise PredictionsError(
                "Temperature scaling needs a validation set.",
                case=", ".join(f"{name} {value}" for name, value in key.items()),
                found=f"sets {', '.join(sorted(rows['set'].unique()))}",
                expected="predictions of the validation set",
                remedy="Evaluate the run, which predicts all its sets.",
            )
        temperature = fit_temperature(probabilities(validation), class_indices(validation)[0])
        scaled.loc[rows.index, names] = apply_temperature(probabilities(rows), temperature)
        temperatures.append({**key, "temperature": temperature})
    return scaled, pd.DataFrame(temperatures, columns=[*RUN_KEY, "stage", "temperature"])


def _classified(frame: pd.DataFrame) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    by = [*RUN_KEY, "stage"]
    for values, rows in frame.groupby(by, sort=False):
        if gives_probabilities(rows):
            yield dict(zip(by, values, strict=True)), rows
