"""Fixtures: a tiny run of three stages, trained once for all tests of a process."""

import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_fit import fit, tiny_description


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Balls in noise: 32 nodules, 16^3 voxels."""
    return write_synthetic_dataset(tmp_path_factory.mktemp("data") / "dataset", cases=32, size=16)


@pytest.fixture(scope="session")
def description(dataset: Dataset) -> RunDescription:
    return tiny_description(dataset)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory, description: RunDescription, dataset: Dataset) -> RunFolder:
    """A run of three stages that nothing disturbed; not to be written to."""
    return fit(tmp_path_factory.mktemp("runs") / "whole", description, dataset)
