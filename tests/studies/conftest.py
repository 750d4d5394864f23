import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.studies.design import items_of
from ggn_tf.studies.item import WorkerChannel, WorkFolder
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_study import tiny_design


@pytest.fixture(scope="package")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Balls in noise: 32 nodules, 16^3 voxels."""
    return write_synthetic_dataset(tmp_path_factory.mktemp("data") / "dataset", cases=32, size=16)


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> WorkFolder:
    """A study of every system on one task, split and repeat, with two lambdas."""
    folder = WorkFolder(tmp_path_factory.mktemp("study") / "whole", dataset, "ggn-tf study")
    for item in items_of(tiny_design(joint_weights=(0.5, 1.0)), dataset):
        item.run(folder, WorkerChannel())
    return folder
