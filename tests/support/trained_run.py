"""Fixtures that take seconds, made once for all processes of a test run: a tiny run, a cross-validation, an export.

A run names its dataset by the way to it: both are in the same places in each process.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.shared_folder import shared_folder

if TYPE_CHECKING:
    # Every test process imports this module as a plug-in: TensorFlow comes with the fixtures that need it, not before.
    from ggn_tf.dataset.records import Dataset
    from ggn_tf.runs.run_description import RunDescription
    from ggn_tf.runs.run_folder import RunFolder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> "Dataset":
    """Balls in noise: 32 nodules, 16^3 voxels."""
    from tests.support.synthetic import write_synthetic_dataset

    return write_synthetic_dataset(tmp_path_factory.mktemp("balls", numbered=False) / "dataset", cases=32, size=16)


@pytest.fixture(scope="session")
def description(dataset: "Dataset") -> "RunDescription":
    from tests.support.tiny_fit import tiny_description

    return tiny_description(dataset)


@pytest.fixture(scope="session")
def whole_run(
    tmp_path_factory: pytest.TempPathFactory, description: "RunDescription", dataset: "Dataset"
) -> "RunFolder":
    """A run of three stages that nothing disturbed; not to be written to."""
    from ggn_tf.runs.run_folder import RunFolder
    from tests.support.tiny_fit import fit

    def train(folder: Path) -> None:
        shutil.copytree(fit(tmp_path_factory.mktemp("trained") / "whole", description, dataset).folder, folder)

    shared = shared_folder(tmp_path_factory, "whole", train)
    return RunFolder.open(shutil.copytree(shared, tmp_path_factory.mktemp("runs") / "whole"))


@pytest.fixture(scope="session")
def whole_crossval(tmp_path_factory: pytest.TempPathFactory, dataset: "Dataset") -> Path:
    """Two folds of the cascade with random weights; not to be written to."""
    from tests.support.tiny_crossval import cross_validate

    def write(folder: Path) -> None:
        shutil.copytree(cross_validate(dataset, tmp_path_factory.mktemp("validated") / "cv").folder, folder)

    shared = shared_folder(tmp_path_factory, "crossval", write)
    return Path(shutil.copytree(shared, tmp_path_factory.mktemp("cv") / "cv"))


@pytest.fixture(scope="session")
def small_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with version 1 of `build_small_model`; not to be written to."""

    def write(folder: Path) -> None:
        from ggn_tf.serving.export.version_writer import export_model
        from ggn_tf.tasks import THREE_CLASSES
        from tests.support.small_model import build_small_model
        from tests.support.tiny_protocol import TINY

        export_model(build_small_model(), THREE_CLASSES, TINY, folder / "ggn")

    return shared_folder(tmp_path_factory, "small-export", write) / "ggn"
