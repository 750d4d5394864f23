import pytest

from ggn_tf.dataset.records import Dataset
from tests.support.synthetic import write_synthetic_dataset


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """24 cases of 12 patients in two shards; nobody writes into it."""
    return write_synthetic_dataset(tmp_path_factory.mktemp("data") / "dataset", nodules_per_patient=2, size=8)
