"""A fitted radiomics baseline on disk, stored with skops, which unlike a pickle cannot run code."""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import sklearn
import skops.io
from sklearn.calibration import CalibratedClassifierCV

from ggn_tf.errors import RadiomicsError, TaskError
from ggn_tf.evaluation.baselines import FittedRadiomics
from ggn_tf.files import atomic_file
from ggn_tf.tasks import Task

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
    with atomic_file(path) as temporary:
        skops.io.dump({"about": json.dumps(about), "classifier": fitted.classifier}, temporary)


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


def _read(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"{size} bytes, more than {_MOST_BYTES}")
        unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))
        if unknown:
            raise RadiomicsError(
                "The stored classifier contains types that are not trusted. It was not loaded.",
                case=path,
                found=", ".join(unknown[:5]),
                expected="types of scikit-learn",
                remedy="Do not use a file of unknown origin; fit the classifier again.",
            )
        stored: dict[str, Any] = skops.io.load(path, trusted=list(TRUSTED))
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
