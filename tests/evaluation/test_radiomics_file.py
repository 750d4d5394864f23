import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
import skops.io
from sklearn.svm import SVC

from ggn_tf.dataset.radiomics import read_radiomics
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import RadiomicsError
from ggn_tf.evaluation.baselines import (
    FittedRadiomics,
    fit_radiomics,
    load_radiomics,
    save_radiomics,
)
from ggn_tf.tasks import Task
from tests.support.radiomics_data import drawn_labels, telling, write_features


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    labels = drawn_labels(80)
    return write_features(tmp_path_factory.mktemp("data") / "dataset", telling(labels, 10), labels)


@pytest.fixture(scope="module")
def fitted(dataset: Dataset) -> tuple[FittedRadiomics, pd.DataFrame]:
    return fit_radiomics(dataset, read_split(dataset, 1), Task.parse("AAH,IAC"), 0)


class Stranger:
    """A type that no classifier of ours holds."""

    def __init__(self) -> None:
        self.name = "stranger"


def store(path: Path, classifier: object, **about: object) -> Path:
    whole = {"schema": 1, "scikit-learn": sklearn.__version__, **about}
    skops.io.dump({"about": json.dumps(whole), "classifier": classifier}, path)
    return path


def test_what_is_read_back_answers_the_same_to_the_last_bit(
    dataset: Dataset, fitted: tuple[FittedRadiomics, pd.DataFrame], tmp_path: Path
) -> None:
    save_radiomics(fitted[0], tmp_path / "radiomics.skops")
    read = load_radiomics(tmp_path / "radiomics.skops")
    features = read_radiomics(dataset).features.to_numpy()
    np.testing.assert_array_equal(*(each.classifier.predict_proba(features) for each in (read, fitted[0])))
    for name in ("features", "settings", "task", "split", "seed", "dataset_fingerprint", "chosen"):
        assert getattr(read, name) == getattr(fitted[0], name)


def test_a_type_that_is_not_trusted_is_refused_by_name(tmp_path: Path) -> None:
    path = store(tmp_path / "radiomics.skops", Stranger())
    with pytest.raises(RadiomicsError, match=r"not trusted(?s:.*)Stranger"):
        load_radiomics(path)


def test_a_function_that_is_not_trusted_is_refused_though_the_rest_is(
    fitted: tuple[FittedRadiomics, pd.DataFrame], tmp_path: Path
) -> None:
    save_radiomics(fitted[0], tmp_path / "radiomics.skops")
    classifier = load_radiomics(tmp_path / "radiomics.skops").classifier
    classifier.estimator.named_steps["select"].score_func = pd.read_pickle
    with pytest.raises(RadiomicsError, match=r"not trusted(?s:.*)read_pickle"):
        load_radiomics(store(tmp_path / "other.skops", classifier))


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "was-run"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    (tmp_path / "radiomics.skops").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(RadiomicsError, match="not a stored radiomics classifier"):
        load_radiomics(tmp_path / "radiomics.skops")
    assert not marker.exists()


def test_a_file_that_is_cut_off_is_refused(fitted: tuple[FittedRadiomics, pd.DataFrame], tmp_path: Path) -> None:
    path = tmp_path / "radiomics.skops"
    save_radiomics(fitted[0], path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RadiomicsError, match=r"not a stored radiomics classifier(?s:.*)BadZipFile"):
        load_radiomics(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RadiomicsError, match=r"not a stored radiomics classifier(?s:.*)FileNotFoundError"):
        load_radiomics(tmp_path / "radiomics.skops")


@pytest.mark.parametrize("content", [SVC(), [1, 2], "text"])
def test_other_content_of_trusted_types_is_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(RadiomicsError, match="not a stored radiomics classifier"):
        load_radiomics(store(tmp_path / "radiomics.skops", content))
    skops.io.dump(content, tmp_path / "plain.skops")
    with pytest.raises(RadiomicsError, match="not a stored radiomics classifier"):
        load_radiomics(tmp_path / "plain.skops")


def test_another_scikit_learn_is_refused(
    fitted: tuple[FittedRadiomics, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_radiomics(fitted[0], tmp_path / "radiomics.skops")
    monkeypatch.setattr(sklearn, "__version__", "0.1.0")
    with pytest.raises(RadiomicsError, match=r"another scikit-learn"):
        load_radiomics(tmp_path / "radiomics.skops")
