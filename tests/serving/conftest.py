from collections.abc import Iterator
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest

from ggn_tf.protocol import Protocol
from ggn_tf.serving.export.golden_requests import sample_patches
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from ggn_tf.tasks import THREE_CLASSES
from tests.support.tiny_protocol import TINY


@pytest.fixture(scope="session")
def tiny() -> Protocol:
    return TINY


@pytest.fixture(scope="session")
def tiny_model() -> keras.Model:
    """Not our network but with its inputs and outputs, because loading one takes ten times as long.

    Its weights are random: a swapped weight would show.
    """
    keras.utils.set_random_seed(1)
    patch = keras.Input((TINY.patch.size,) * 3 + (1,), name="patch")
    features = keras.layers.Conv3D(2, 3, padding="same", bias_initializer="random_normal", activation="relu")(patch)
    mask = keras.layers.Conv3D(1, 1, activation="sigmoid", name="mask")(features)
    pooled = keras.layers.GlobalAveragePooling3D()(keras.layers.Multiply()([features, mask]))
    dense = keras.layers.Dense(3, "softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=8.0))
    return keras.Model(patch, {"mask": mask, "probabilities": dense(pooled)})


@pytest.fixture(scope="session")
def exported(tiny_model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with version 1; not to be written to."""
    folder = tmp_path_factory.mktemp("models") / "ggn"
    export_model(tiny_model, THREE_CLASSES, TINY, folder)
    return folder


@pytest.fixture(scope="session")
def patches() -> np.ndarray:
    return sample_patches(TINY.patch, 3, seed=7)


@pytest.fixture(scope="session")
def server(exported: Path) -> Iterator[ModelServer]:
    with ModelServer(exported, ServerOptions(port=0)) as running:
        yield running


@pytest.fixture(scope="session")
def channel(server: ModelServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened
