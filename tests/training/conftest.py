import dataclasses

import pytest

from ggn_tf.protocol import Protocol
from ggn_tf.tasks import Task
from ggn_tf.training.run_folder import RunDescription


@pytest.fixture(scope="session")
def tiny_protocol() -> Protocol:
    """The paper's networks with two to four channels, and stages of two epochs with a batch of 4."""
    whole = Protocol()
    training = dataclasses.replace(whole.training, batch_size=4)
    for name in ("segment", "classify", "joint"):
        stage = dataclasses.replace(getattr(training, name), max_epochs=2, learning_rate=1e-3)
        training = dataclasses.replace(training, **{name: stage})
    return dataclasses.replace(
        whole,
        cnn=dataclasses.replace(whole.cnn, channels=(2, 2, 2, 2, 2, 2, 4, 4), fc_units=(8, 8)),
        unet=dataclasses.replace(whole.unet, channels_down=(2, 2, 2, 2, 2, 2, 4, 4), channels_up=(2, 2, 2, 2, 2, 2)),
        training=training,
    )


@pytest.fixture(scope="session")
def description(tiny_protocol: Protocol) -> RunDescription:
    return RunDescription(
        task=Task.parse("AAH+AIS,MIA+IAC"),
        model="cascade",
        split=1,
        seed=7,
        precision="float32",
        select_on="validation",
        protocol=tiny_protocol,
        dataset_fingerprint="0" * 64,
    )
