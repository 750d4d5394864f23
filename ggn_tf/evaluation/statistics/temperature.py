"""Temperature scaling: probabilities made less sure, or surer, as the validation set says (Guo et al. 2017)."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.predictions_table import (
    PROBABILITY_PREFIX,
    RUN_KEY,
    check_predictions,
    probabilities,
    table_classes,
)
from ggn_tf.evaluation.statistics.scores import class_indices, gives_probabilities

# A softmax in float32 gives 0 where its logarithm has no end.
SMALLEST = 1e-12
_TEMPERATURES = (0.05, 20.0)


def fit_temperature(chance: np.ndarray, label: np.ndarray) -> float:
    """The temperature at which the probabilities of a validation set have the least cross-entropy.

    Args:
        chance: Probabilities [N, C]; their logarithms serve as logits.
        label: Class index [N].

    Returns:
        T in [0.05, 20]; above 1 the probabilities were too sure.
    """
    logits = np.log(np.maximum(chance, SMALLEST))

    def cross_entropy(log_temperature: float) -> float:
        logs = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-logs[np.arange(len(label)), label].mean())

    found = minimize_scalar(cross_entropy, bounds=np.log(_TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def apply_temperature(chance: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [..., C] at another temperature; their order within a nodule stays."""
    scaled: np.ndarray = softmax(np.log(np.maximum(chance, SMALLEST)) / temperature, axis=-1)
    return scaled


def scale_by_temperature(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Temperature scaling of every run and stage, fitted on its validation set, applied to all its sets.

    Args:
        frame: The predictions of one task; models, stages, splits and repeats as the rows say.

    Returns:
        The same table with scaled probabilities, and the temperatures: columns model, split, repeat, stage,
        temperature, a row for each that classifies.

    Raises:
        PredictionsError: The table is wrong, or a run has no validation set.
    """
    checked = check_predictions(frame)
    names = [PROBABILITY_PREFIX + name for name in table_classes(checked)]
    scaled, temperatures = checked.copy(), []
    for key, rows in _classified(checked):
        validation = rows[rows["set"] == "validation"]
        if validation.empty:
            raise PredictionsError(
                "Temperature scaling needs a validation set.",
                case=", ".join(f"{name} {value}" for name, value in key.items()),
                found=f"sets {', '.join(sorted(rows['set'].unique()))}",
                expected="predictions of the validation set",
                remedy="Evaluate the run, which predicts all its sets; an external test set has none of its own.",
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
