"""The examples in the docstrings of the API, one after the other in one folder, with tiny networks."""

import doctest
import json
import shutil
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

import ggn_tf
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import digest_of, read_split
from ggn_tf.json_records import read_document, with_digest, without_digest
from ggn_tf.protocol import PROTOCOLS
from ggn_tf.runs.run_folder import RunFolder
from tests.support.case_files import write_case_files
from tests.support.chest import lung_grid, lung_with_balls, write_dicom, write_nifti
from tests.support.tiny_protocol import tiny_protocol


def run_examples(name: str) -> doctest.TestResults:
    """Examples are marked to be skipped where there is no data; here there is some."""
    module = import_module(name)
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(module, globs={"ggn_tf": ggn_tf}):
        for example in test.examples:
            example.options.pop(doctest.SKIP, None)
        if name.endswith("load") and test.name.endswith("predict"):
            test.globs["model"] = ggn_tf.load("models/ggn")
        runner.run(test)
    return doctest.TestResults(runner.failures, runner.tries)


@pytest.fixture
def folder(tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GGN_TF_SALT_FILE", str(tmp_path / "salt"))
    write_case_files(tmp_path, 12)
    image = lung_with_balls(lung_grid())
    write_nifti(image, tmp_path / "ct.nii.gz")
    write_dicom(image, tmp_path / "ct")
    return tmp_path


@pytest.mark.slow
def test_the_examples_give_what_they_show(
    folder: Path, dataset: Dataset, whole_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_examples("ggn_tf.api.prepare") == (0, 2)
    shutil.rmtree(folder / "dataset")
    shutil.copytree(dataset.folder, folder / "dataset")
    # Its run is finished: to ask for it again trains nothing.
    description = shutil.copytree(whole_run.folder, folder / "runs" / "a") / "run.json"
    stored = without_digest(read_document(description)) | {
        "dataset": "../../dataset",
        "split_digest": digest_of(read_split(dataset, 1)),
    }
    description.write_text(json.dumps(with_digest(stored)), encoding="utf-8")
    monkeypatch.setitem(PROTOCOLS, "paper", tiny_protocol)
    monkeypatch.setattr("ggn_tf.fit", partial(ggn_tf.fit, seed=7, precision="float32", segment_on="task"))
    monkeypatch.setattr("ggn_tf.evaluate", partial(ggn_tf.evaluate, replicates=50, gallery=1))
    for name, examples in (("fit", 3), ("evaluate", 4), ("export", 1), ("serve", 1), ("load", 4)):
        assert run_examples(f"ggn_tf.api.{name}") == (0, examples)
