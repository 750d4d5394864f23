"""The baseline of the paper's Table 6: a support vector machine on radiomic features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_selection import SelectPercentile, VarianceThreshold, f_classif
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ggn_tf.dataset.radiomics import RadiomicsTable, read_radiomics
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import RadiomicsError
from ggn_tf.evaluation.grouped_folds import grouped_folds
from ggn_tf.evaluation.statistics.paper_systems import RADIOMICS
from ggn_tf.evaluation.statistics.predictions_table import check_predictions, columns, probability_columns
from ggn_tf.evaluation.task_nodules import identify, nodules_of
from ggn_tf.protocol import SETS
from ggn_tf.tasks import Task

# Share of the features that is kept, softness of the margin, and the kernel. The first of equal settings is chosen, so
# the simpler ones come first.
GRID = [
    {"svm__kernel": ["linear"], "svm__C": [0.01, 0.1, 1.0], "select__percentile": [5, 10, 25, 50, 100]},
    {
        "svm__kernel": ["rbf"],
        "svm__C": [0.1, 1.0, 10.0, 100.0],
        "svm__gamma": ["scale", 0.01],
        "select__percentile": [5, 10, 25, 50, 100],
    },
]


@dataclass(frozen=True)
class FittedRadiomics:
    """A fitted baseline and how it was fitted.

    Attributes:
        classifier: Maps features [N, F] to a probability of each class [N, C].
        features: Names of the features, in the order of the columns.
        settings: Settings of the feature extraction.
        task: Its classes.
        split: Number of the split whose training set it was fitted on.
        seed: Seed of the folds.
        dataset_fingerprint: Fingerprint of the dataset.
        chosen: Settings that the cross-validation chose, and their accuracy.
    """

    classifier: Any
    features: tuple[str, ...]
    settings: dict[str, Any]
    task: Task
    split: int
    seed: int
    dataset_fingerprint: str
    chosen: dict[str, Any]


def fit_radiomics(
    dataset: Dataset, split: Split, task: Task, seed: int, *, repeat: int = 1
) -> tuple[FittedRadiomics, pd.DataFrame]:
    """Fit the baseline on a split's training set and predict every case of the split.

    Selection, tuning and calibration use only the training set, in folds by patient. No validation set is needed, so
    the validation scores are as unbiased as the test scores.

    Args:
        dataset: A dataset with radiomic features.
        split: Split of the dataset.
        task: The classes.
        seed: Seed of the folds.
        repeat: Number of this fit in the predictions.

    Returns:
        The fitted baseline and `predict_radiomics` of it.

    Raises:
        DatasetError: The dataset has no radiomic features, or they are damaged.
        TaskError: The task names labels that the dataset lacks.
        SplitError: The training set has too few patients of a class.
    """
    task.check_labels(case.label for case in dataset.cases)
    table = read_radiomics(dataset)
    training = nodules_of(dataset.select(split.train), task)
    label = np.array([task.class_of(case.label) for case in training], dtype=np.int64)
    values = table.rows([case.case_id for case in training])
    patients = [case.patient_id for case in training]
    classifier, chosen = fit_classifier(values, label, patients, seed, task.class_names)
    fitted = FittedRadiomics(
        classifier=classifier,
        features=tuple(table.features.columns),
        settings=table.settings,
        task=task,
        split=split.number,
        seed=seed,
        dataset_fingerprint=dataset.fingerprint,
        chosen=chosen,
    )
    return fitted, _predict(fitted, dataset, split, table, repeat)


def predict_radiomics(fitted: FittedRadiomics, dataset: Dataset, split: Split, *, repeat: int = 1) -> pd.DataFrame:
    """Predict every case of a split, of the baseline's own dataset or of another, with a fitted baseline.

    Returns:
        A checked predictions table like the networks', with the model `radiomics`, the stage `classify` and no Dice.

    Raises:
        DatasetError: The dataset has no radiomic features, or they are damaged.
        RadiomicsError: Its features were measured with other settings.
    """
    table = read_radiomics(dataset)
    names = tuple(table.features.columns)
    if names != fitted.features or table.settings != fitted.settings:
        raise RadiomicsError(
            "The dataset's radiomic features have other settings than those that the classifier was fitted on.",
            case=dataset.folder,
            found=f"{len(names)} features, {_settings_text(table.settings)}",
            expected=f"{len(fitted.features)} features, {_settings_text(fitted.settings)}",
            remedy="Prepare both datasets with radiomic features and the same versions of ggn-tf and pyradiomics.",
            arguments=("radiomics",),
        )
    return _predict(fitted, dataset, split, table, repeat)


def fit_classifier(
    values: np.ndarray, label: np.ndarray, patients: Sequence[str], seed: int, class_names: Sequence[str]
) -> tuple[Any, dict[str, Any]]:
    """Choose, fit and calibrate the pipeline.

    The settings with the best accuracy in cross-validation by patient are chosen, with imputation, scaling and
    selection inside the folds. Probabilities are calibrated (Platt) on the out-of-fold predictions of the same pipeline
    in other folds.

    Args:
        values: Features [N, F]; NaN where a feature is undefined.
        label: Class index [N].
        patients: Patient of each case [N].
        seed: Seed of the folds.
        class_names: In the order of the class indices.

    Returns:
        The classifier, and the chosen settings with their accuracy in cross-validation.

    Raises:
        SplitError: As `grouped_folds`.
    """
    choosing, calibrating = np.random.SeedSequence(seed).generate_state(2).tolist()
    folds = grouped_folds(label, patients, choosing, class_names)
    search = GridSearchCV(_pipeline(), GRID, scoring="accuracy", cv=folds, refit=False).fit(values, label)
    best = {name: _plain(value) for name, value in search.best_params_.items()}
    folds = grouped_folds(label, patients, calibrating, class_names)
    classifier = CalibratedClassifierCV(_pipeline().set_params(**best), cv=folds, ensemble=False).fit(values, label)
    # The indices of the folds are no longer needed and would be stored.
    classifier.cv = None
    return classifier, {**best, "accuracy": float(search.best_score_)}


def _pipeline() -> Pipeline:
    return Pipeline(
        [
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", StandardScaler()),
            # The variance of a scaled feature is 1, or 0 where the feature is constant.
            ("vary", VarianceThreshold(0.5)),
            ("select", SelectPercentile(f_classif)),
            ("svm", SVC()),
        ]
    )


def _predict(
    fitted: FittedRadiomics, dataset: Dataset, split: Split, table: RadiomicsTable, repeat: int
) -> pd.DataFrame:
    task, parts = fitted.task, []
    row: dict[str, Any] = {"split": split.number, **RADIOMICS._asdict(), "repeat": repeat, "dice": np.nan}
    for name in SETS:
        cases = nodules_of(dataset.select(getattr(split, name)), task)
        if not cases:
            continue
        probability = fitted.classifier.predict_proba(table.rows([case.case_id for case in cases]))
        columns_of_set = probability_columns(probability, task.class_names)
        parts.append(identify(cases, task).assign(set=name, **row, **columns_of_set))
    return check_predictions(pd.concat(parts, ignore_index=True)[columns(task.class_names)])


def _settings_text(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if name != "families")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
