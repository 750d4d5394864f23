import dataclasses

import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.protocol import Protocol
from ggn_tf.tasks import Task
from ggn_tf.training.description import RunDescription
from tests.synthetic import write_synthetic_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Balls in noise: 32 nodules, 16^3 voxels."""
    return write_synthetic_dataset(tmp_path_factory.mktemp("data") / "dataset", cases=32, size=16)


@pytest.fixture(scope="session")
def tiny_protocol() -> Protocol:
    """Networks of two scales on 16^3 patches with two to four channels; stages of two epochs, batches of 4."""
    whole = Protocol()
    training = dataclasses.replace(whole.training, batch_size=4)
    for name in ("segment", "classify", "joint"):
        stage = dataclasses.replace(getattr(training, name), max_epochs=2, learning_rate=1e-3)
        training = dataclasses.replace(training, **{name: stage})
    return dataclasses.replace(
        whole,
        patch=dataclasses.replace(whole.patch, size=16),
        cnn=dataclasses.replace(whole.cnn, channels=(2, 2, 4, 4), fc_units=(8,)),
        unet=dataclasses.replace(
            whole.unet, channels_down=(2, 2, 4, 4), channels_up=(2, 2), dilations_down=(1, 1, 2, 2), dilations_up=(2, 1)
        ),
        training=training,
    )


@pytest.fixture(scope="session")
def description(tiny_protocol: Protocol, dataset: Dataset) -> RunDescription:
    return RunDescription(
        task=Task.parse("AAH+AIS,MIA+IAC"),
        model="cascade",
        split=1,
        seed=7,
        precision="float32",
        select_on="validation",
        protocol=tiny_protocol,
        dataset_fingerprint=dataset.fingerprint,
    )
