from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ggn_tf.cli import main
from tests.support.synthetic import write_synthetic_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_dataset(tmp_path_factory.mktemp("study") / "dataset", 16).folder


def study(dataset: Path, folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["study", str(dataset), "-o", str(folder), *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "raw,svm"), "'svm' is not one of raw, reference, cascade, multitask, transfer, radiomics"),
        (("--joint-weights", "0.5,nan"), "nan is not a positive number"),
        (("--splits", "1,0"), "0 is not a positive number"),
        (("--splits", "one"), "'one' is not int values with commas between"),
        (("--splits", "1.5"), "'1.5' is not int values with commas between"),
        (("--ablations", "none"), "'none' is not one of background-air"),
        (("--primary", "f1"), "'f1' is not one of"),
        (("--equivalence", "0"), "0 is not in the range 0<x<=1"),
        (("--equivalence", "nan"), "nan is not a finite number"),
        (("--sensitivity", "95"), "95.0 is not in the range 0<x<=1"),
        (("--repeats", "0"), "0 is not in the range x>=1"),
    ],
)
def test_bad_options_are_a_usage_error(dataset: Path, tmp_path: Path, arguments: tuple[str, ...], message: str):
    result = study(dataset, tmp_path / "study", *arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "1+2,4+5"), "names labels that no nodule has"),
        (("--tasks", "AAH+AIS"), "does not parse"),
        (("--models", "radiomics"), "The dataset has no radiomic features."),
        (("--splits", "9"), "split"),
        (("--splits", "missing.csv"), "(option --splits)"),
        (("--models", "raw", "--ablations", "frozen-unet"), "(option --models, option --ablations)"),
        (("--pairs", "cascade:svm"), "(option --pairs)"),
        (("--by", "scanner"), "(option --by)"),
    ],
)
def test_bad_input_is_one_block_and_trains_nothing(
    dataset: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
):
    result = study(dataset, tmp_path / "study", *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and message in result.stderr and "remedy:" in result.stderr
    assert not (tmp_path / "study").exists()


def test_a_dataset_that_is_not_there_is_one_block(tmp_path: Path):
    result = study(tmp_path / "nowhere", tmp_path / "study")
    assert result.exit_code == 1 and "remedy:" in result.stderr
    assert not (tmp_path / "study").exists()
