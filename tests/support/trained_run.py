"""Fixtures: a tiny run of three stages, trained once for all tests of a process."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    # Every test process imports this module as a plug-in: TensorFlow comes with the fixtures that need it, not before.
    from ggn_tf.dataset.records import Dataset
    from ggn_tf.runs.run_description import RunDescription
    from ggn_tf.runs.run_folder import RunFolder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> "Dataset":
    """Balls in noise: 32 nodules, 16^3 voxels."""
    from tests.support.synthetic import write_synthetic_dataset

    return write_synthetic_dataset(tmp_path_factory.mktemp("data") / "dataset", cases=32, size=16)


@pytest.fixture(scope="session")
def description(dataset: "Dataset") -> "RunDescription":
    from tests.support.tiny_fit import tiny_description

    return tiny_description(dataset)


@pytest.fixture(scope="session")
def whole_run(
    tmp_path_factory: pytest.TempPathFactory, description: "RunDescription", dataset: "Dataset"
) -> "RunFolder":
    """A run of three stages that nothing disturbed; not to be written to."""
    from tests.support.tiny_fit import fit

    return fit(tmp_path_factory.mktemp("runs") / "whole", description, dataset)
