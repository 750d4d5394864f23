import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ggn_tf.cli import main
from ggn_tf.dataset.radiomics import read_radiomics
from ggn_tf.dataset.records import open_dataset
from ggn_tf.protocol import PatchProtocol
from tests.support.case_files import write_case_files


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case_files(tmp_path_factory.mktemp("cases"), 12)


def prepare(table: Path, output: Path, *options: str) -> Result:
    salt = ("--salt-file", str(output.parent / "salt"))
    return CliRunner().invoke(main, ["prepare", str(table), "-o", str(output), *salt, *options])


def test_features_are_written_under_the_datasets_own_ids(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("radiomics", reason="pyradiomics is not installed; scripts/radiomics.sh builds it")
    result = prepare(table, tmp_path / "dataset", "--radiomics", "--jobs", "2")
    assert result.exit_code == 0, result.output
    dataset = open_dataset(tmp_path / "dataset", PatchProtocol())
    features = read_radiomics(dataset).features
    assert list(features.index) == [case.case_id for case in dataset.cases]
    np.testing.assert_allclose(features["firstorder_Mean"], [case.mean_hu for case in dataset.cases], rtol=1e-6)
    np.testing.assert_allclose(features["shape_VoxelVolume"], [case.volume_mm3 for case in dataset.cases], rtol=1e-6)


def test_without_pyradiomics_nothing_is_begun(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "radiomics", None)
    result = prepare(table, tmp_path / "dataset", "--radiomics")
    assert result.exit_code == 1
    assert "scripts/radiomics.sh" in result.stderr
    assert list(tmp_path.iterdir()) == []
