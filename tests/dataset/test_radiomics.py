import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.dataset.case_outcome import AcceptedCase
from ggn_tf.dataset.radiomics import read_radiomics
from ggn_tf.dataset.records import Dataset, open_dataset
from ggn_tf.dataset.writer import write_dataset
from ggn_tf.errors import DatasetError
from ggn_tf.protocol import PatchProtocol, SplitProtocol
from tests.support.description_edits import edit_description
from tests.support.synthetic import synthetic_nodules

PROTOCOL = PatchProtocol(size=8)
SETTINGS = {"software": "by hand", "bin_width_hu": 25.0}
FEATURES = {"shape_Volume": 1 / 3, "firstorder_Mean": -401.25, "glcm_Contrast": 1e-17}


def nodules(count: int = 6) -> list[AcceptedCase]:
    return [
        dataclasses.replace(nodule, radiomics={name: value * (number + 1) for name, value in FEATURES.items()})
        for number, nodule in enumerate(synthetic_nodules(count, protocol=PROTOCOL))
    ]


def write(folder: Path, cases: list[AcceptedCase], settings: dict[str, object] | None = SETTINGS) -> Dataset:
    return write_dataset(
        folder, PROTOCOL, cases, split_protocol=SplitProtocol(), splits=1, previews=False, radiomics=settings
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write(tmp_path / "dataset", nodules())


def test_features_read_back_to_the_last_bit(dataset: Dataset) -> None:
    table = read_radiomics(dataset)
    assert list(table.features.columns) == list(FEATURES)
    expected = [[value * (number + 1) for value in FEATURES.values()] for number in range(6)]
    np.testing.assert_array_equal(table.features.to_numpy(), expected)
    assert table.settings == SETTINGS


def test_rows_come_in_the_order_of_the_ids(dataset: Dataset) -> None:
    rows = read_radiomics(dataset).rows(["case-0004", "case-0001"])
    assert rows[:, 1].tolist() == [-401.25 * 5, -401.25 * 2]


def test_an_undefined_feature_is_an_empty_field(tmp_path: Path) -> None:
    cases = nodules()
    cases[2] = dataclasses.replace(cases[2], radiomics={**FEATURES, "glcm_Contrast": float("nan")})
    dataset = write(tmp_path / "dataset", cases)
    line = (dataset.folder / "radiomics.csv").read_text(encoding="utf-8").splitlines()[3]
    assert line == f"case-0002,{1 / 3!r},-401.25,"
    assert np.isnan(read_radiomics(dataset).rows(["case-0002"])[0, 2])


def test_the_fingerprint_is_that_of_the_patches_alone(dataset: Dataset, tmp_path: Path) -> None:
    without = write(tmp_path / "without", list(synthetic_nodules(6, protocol=PROTOCOL)), None)
    assert without.fingerprint == dataset.fingerprint
    assert not (without.folder / "radiomics.csv").exists()


def test_a_dataset_without_features_says_how_to_get_them(tmp_path: Path) -> None:
    dataset = write(tmp_path / "dataset", list(synthetic_nodules(6, protocol=PROTOCOL)), None)
    with pytest.raises(DatasetError) as caught:
        read_radiomics(dataset)
    assert "radiomics" in caught.value.arguments


def _change_a_value(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace("-401.25", "-401.26"), encoding="utf-8")


@pytest.mark.parametrize(("damage", "found"), [(_change_a_value, "SHA-256"), (Path.unlink, "no file")])
def test_what_is_not_what_was_written_is_refused(
    dataset: Dataset, damage: Callable[[Path], object], found: str
) -> None:
    damage(dataset.folder / "radiomics.csv")
    with pytest.raises(DatasetError, match=rf"not those that were written(?s:.*){found}"):
        read_radiomics(dataset)


def test_features_of_other_cases_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    other = write(tmp_path / "other", nodules(9))
    taken = json.loads((other.folder / "dataset.json").read_text(encoding="utf-8"))["radiomics"]
    edit_description(dataset.folder, lambda stored: stored.update(radiomics=taken))
    (dataset.folder / "radiomics.csv").write_bytes((other.folder / "radiomics.csv").read_bytes())
    with pytest.raises(DatasetError, match="of other cases than the dataset's"):
        read_radiomics(open_dataset(dataset.folder, PROTOCOL))


def test_a_description_that_was_cut_is_refused(dataset: Dataset) -> None:
    edit_description(dataset.folder, lambda stored: stored["radiomics"].pop("sha256"))
    with pytest.raises(DatasetError, match=r"description is damaged(?s:.*)radiomics: KeyError"):
        read_radiomics(dataset)


@pytest.mark.parametrize("features", [None, {"shape_Volume": 1.0}])
def test_a_nodule_with_other_features_leaves_nothing(tmp_path: Path, features: dict[str, float] | None) -> None:
    cases = nodules()
    cases[3] = dataclasses.replace(cases[3], radiomics=features)
    with pytest.raises(ValueError, match="Expected features"):
        write(tmp_path / "dataset", cases)
    assert list(tmp_path.iterdir()) == []
