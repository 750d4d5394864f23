import numpy as np
import pytest

from ggn_tf.protocol import CnnProtocol, PatchProtocol, Protocol, UnetProtocol


@pytest.fixture
def small() -> Protocol:
    """The paper's networks with few channels on patches of 16^3: every rewrite applies as at full size."""
    return Protocol(
        patch=PatchProtocol(size=16),
        cnn=CnnProtocol(channels=(4, 4, 6, 6, 8, 8, 8, 8), fc_units=(12, 12)),
        unet=UnetProtocol(channels_down=(4, 4, 6, 6, 8, 8, 8, 8), channels_up=(8, 8, 6, 6, 4, 4)),
    )


@pytest.fixture
def patches() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (2, 16, 16, 16, 1)).astype("float32")


@pytest.fixture
def protocol() -> Protocol:
    return Protocol()
