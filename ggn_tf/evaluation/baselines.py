"""The baselines that a network must beat: logistic regression on one number, and an SVM on radiomic features.

The number, of size or density, is measured on the reference mask; the support vector machine is of the paper's Table 6.
Fitted, it is stored with skops, which unlike a pickle cannot run code.
"""

import importlib
import json
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_selection import SelectPercentile, VarianceThreshold, f_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.radiomics import RadiomicsTable, read_radiomics
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import PredictionsError, RadiomicsError, SplitError, TaskError
from ggn_tf.evaluation.statistics.paper_systems import RADIOMICS
from ggn_tf.evaluation.statistics.predictions_table import nodules_of, tabulate_sets
from ggn_tf.files import atomic_file
from ggn_tf.protocol import SETS
from ggn_tf.runs.stages import CLASSIFY
from ggn_tf.tasks import Task

# By the name of the model; sizes as logarithms, since nodules grow by factors.
MEASURES: Mapping[str, Callable[[CaseRecord], float]] = MappingProxyType(
    {
        "diameter": lambda case: float(np.log(case.longest_diameter_mm)),
        "volume": lambda case: float(np.log(case.volume_mm3)),
        "mean_hu": lambda case: case.mean_hu,
        "solid_fraction": lambda case: case.solid_fraction,
        "mean_diameter": lambda case: float(np.log(case.mean_diameter_mm)),
        "mass": lambda case: float(np.log1p(case.mass_mg)),
        "solid_diameter": lambda case: float(np.log1p(case.solid_longest_diameter_mm)),
    }
)


def predict_by_measure(cases: Mapping[str, CaseRecord], split: Split, task: Task, model: str) -> pd.DataFrame:
    """Fit one of the `MEASURES` on the training set, predict all sets; the measure names the model of the predictions.

    Nodules whose label is in no class of the task are left out.

    Returns:
        A checked predictions table: stage `classify`, repeat 1 (another training would give the same), no Dice.

    Raises:
        PredictionsError: The training set lacks a class.
    """
    sets = {name: nodules_of([cases[case_id] for case_id in getattr(split, name)], task) for name in SETS}
    regression = make_pipeline(StandardScaler(), LogisticRegression())
    regression.fit(_numbers(sets["train"], model), _classes(sets["train"], task))
    row = {"split": split.number, "model": model, "stage": CLASSIFY.name, "repeat": 1}
    return tabulate_sets(sets, lambda cases: regression.predict_proba(_numbers(cases, model)), task, **row)


def _numbers(records: list[CaseRecord], model: str) -> np.ndarray:
    return np.array([[MEASURES[model](case)] for case in records], np.float64)


def _classes(records: list[CaseRecord], task: Task) -> np.ndarray:
    label = np.array([task.class_of(case.label) for case in records], np.int64)
    lacking = [name for index, name in enumerate(task.class_names) if index not in label]
    if lacking:
        raise PredictionsError(
            "The training set lacks a class, so the baseline cannot be fitted.",
            found=f"no nodule of {', '.join(lacking)} among {len(records)}",
            expected="nodules of every class of the task",
            remedy="Use another split or task, or a dataset with more nodules.",
            arguments=("split", "task"),
        )
    return label


FOLDS = 5
# Number of draws before the folds are given up because a training part lacks a class.
_ATTEMPTS = 20

Fold = tuple[np.ndarray, np.ndarray]


def grouped_folds(label: np.ndarray, patients: Sequence[str], seed: int, class_names: Sequence[str]) -> list[Fold]:
    """Draw folds by patient, stratified by class as far as whole patients allow.

    Takes class index and patient of each case [N]. Returns for each of five folds (fewer where a class has fewer
    patients) the indices of its training part and of the fold.

    Raises:
        SplitError: A class has fewer than two patients, or no draw leaves every class in every training part.
    """
    patient = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    counts = [len(np.unique(patient[label == index])) for index in range(len(class_names))]
    if min(counts) >= 2:
        for attempt in range(_ATTEMPTS):
            state = int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0])
            folds = _drawn(label, patient, min(FOLDS, *counts), state)
            if all(len(np.unique(label[training])) == len(class_names) for training, _ in folds):
                return folds
    raise SplitError(
        "The training set has too few patients of a class for cross-validation.",
        found=", ".join(f"{count} of {name}" for count, name in zip(counts, class_names, strict=True)),
        expected="at least two patients of every class, none of whom has nearly all nodules",
        remedy="Use another split, merge classes, or prepare more cases.",
        arguments=("split", "task"),
    )


def _drawn(label: np.ndarray, patient: np.ndarray, folds: int, state: int) -> list[Fold]:
    with warnings.catch_warnings():
        # "The least populated class has fewer members than folds": counted in patients, it has not.
        warnings.simplefilter("ignore", UserWarning)
        return list(StratifiedGroupKFold(folds, shuffle=True, random_state=state).split(label, label, patient))


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

    The classifier maps features [N, F], in the order of their names, to a probability of each class [N, C]. The
    settings are of the feature extraction; `chosen` are those that the cross-validation chose, and their accuracy.
    """

    classifier: Any
    features: tuple[str, ...]
    settings: dict[str, Any]
    task: Task
    split: int
    seed: int
    dataset_fingerprint: str
    chosen: dict[str, Any]


def fit_radiomics(dataset: Dataset, split: Split, task: Task, seed: int) -> tuple[FittedRadiomics, pd.DataFrame]:
    """Fit the baseline on a split's training set and predict every case of the split.

    Selection, tuning and calibration use only the training set, in folds by patient. No validation set is needed, so
    the validation scores are as unbiased as the test scores. The predictions table is like the networks', with the
    model `radiomics`, the stage `classify`, repeat 1 and no Dice.
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
    return fitted, _predict(fitted, dataset, split, table)


def fit_classifier(
    values: np.ndarray, label: np.ndarray, patients: Sequence[str], seed: int, class_names: Sequence[str]
) -> tuple[Any, dict[str, Any]]:
    """Choose, fit and calibrate the pipeline; returns the classifier, the chosen settings and their accuracy.

    The settings with the best accuracy in cross-validation by patient are chosen, with imputation, scaling and
    selection inside the folds. Probabilities are calibrated (Platt) on the out-of-fold predictions of the same pipeline
    in other folds. Features are [N, F], NaN where undefined; labels are class indices [N].
    """
    choosing, calibrating = np.random.SeedSequence(seed).generate_state(2).tolist()
    folds = grouped_folds(label, patients, choosing, class_names)
    search = GridSearchCV(_pipeline(), GRID, scoring="accuracy", cv=folds, refit=False).fit(values, label)
    chosen = search.best_params_.items()
    best = {name: value.item() if isinstance(value, np.generic) else value for name, value in chosen}
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


def _predict(fitted: FittedRadiomics, dataset: Dataset, split: Split, table: RadiomicsTable) -> pd.DataFrame:
    def probability(cases: list[CaseRecord]) -> Any:
        return fitted.classifier.predict_proba(table.rows([case.case_id for case in cases]))

    sets = {name: nodules_of(dataset.select(getattr(split, name)), fitted.task) for name in SETS}
    return tabulate_sets(sets, probability, fitted.task, split=split.number, **RADIOMICS._asdict(), repeat=1)


SCHEMA = 1
# Types of the pipeline besides scikit-learn's public estimators, which skops trusts. None of them can run code from a
# file.
TRUSTED = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.feature_selection._univariate_selection.f_classif",
)
# Raised by skops and zipfile for files that are damaged, encrypted, nested too deeply, or not their own.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError, zlib.error),
    zipfile.BadZipFile,
)
# Of all parts together; a fit takes some 100 kB.
_MOST_BYTES = 64 << 20


def save_radiomics(fitted: FittedRadiomics, path: Path) -> None:
    """Write a fitted baseline, for example as `RUN/radiomics.skops`, whole or not at all."""
    about = {
        "schema": SCHEMA,
        "scikit-learn": sklearn.__version__,
        "features": list(fitted.features),
        "settings": fitted.settings,
        "task": str(fitted.task),
        "split": fitted.split,
        "seed": fitted.seed,
        "dataset_fingerprint": fitted.dataset_fingerprint,
        "chosen": fitted.chosen,
    }
    skops_io = _skops_io()
    with atomic_file(path) as temporary:
        skops_io.dump({"about": json.dumps(about), "classifier": fitted.classifier}, temporary)


def load_radiomics(path: Path) -> FittedRadiomics:
    """Read a fitted baseline; only types of scikit-learn are loaded.

    Raises:
        RadiomicsError: The file is missing, damaged or not a baseline, names a type that is not trusted, or was written
            with another scikit-learn, whose predictions may differ.
    """
    stored = _read(path)
    try:
        about = json.loads(stored["about"])
        if about["schema"] != SCHEMA or not isinstance(stored["classifier"], CalibratedClassifierCV):
            raise KeyError("schema")
        _check_version(path, str(about["scikit-learn"]))
        return FittedRadiomics(
            classifier=stored["classifier"],
            features=tuple(about["features"]),
            settings=about["settings"],
            task=Task.parse(about["task"]),
            split=int(about["split"]),
            seed=int(about["seed"]),
            dataset_fingerprint=about["dataset_fingerprint"],
            chosen=about["chosen"],
        )
    except (KeyError, TypeError, ValueError, TaskError) as error:
        raise _no_baseline(path, f"{type(error).__name__}: {error}") from error


def _skops_io() -> ModuleType:
    """Imported late, because it takes nearly a second and `export` does not need it."""
    return importlib.import_module("skops.io")


def _read(path: Path) -> dict[str, Any]:
    skops_io = _skops_io()
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"{size} bytes, more than {_MOST_BYTES}")
        unknown = sorted(set(skops_io.get_untrusted_types(file=path)) - set(TRUSTED))
        if unknown:
            raise RadiomicsError(
                "The stored classifier contains types that are not trusted. It was not loaded.",
                case=path,
                found=", ".join(unknown[:5]),
                expected="types of scikit-learn",
                remedy="Do not use a file of unknown origin; fit the classifier again.",
            )
        stored: dict[str, Any] = skops_io.load(path, trusted=list(TRUSTED))
    except _UNREADABLE as error:
        raise _no_baseline(path, f"{type(error).__name__}: {error}") from error
    return stored


def _check_version(path: Path, written: str) -> None:
    if written.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        raise RadiomicsError(
            "The stored classifier was written with another scikit-learn.",
            case=path,
            found=f"scikit-learn {written}",
            expected=f"the installed scikit-learn {sklearn.__version__}",
            remedy="Fit the classifier again, which takes seconds, or install that version.",
        )


def _no_baseline(path: Path, found: str) -> RadiomicsError:
    return RadiomicsError(
        "This is not a stored radiomics classifier.",
        case=path,
        found=found,
        expected=f"a file of schema {SCHEMA} that save_radiomics wrote",
        remedy="Name another file, or fit the classifier again.",
    )
