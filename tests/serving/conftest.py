from collections.abc import Iterator
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest

from ggn_tf.protocol import Protocol
from ggn_tf.serving.export.golden_requests import sample_patches
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from tests.support.small_model import build_small_model
from tests.support.tiny_protocol import TINY


@pytest.fixture(scope="session")
def tiny() -> Protocol:
    return TINY


@pytest.fixture(scope="session")
def small_model() -> keras.Model:
    return build_small_model()


@pytest.fixture(scope="session")
def tiny_model(small_model: keras.Model) -> keras.Model:
    return small_model


@pytest.fixture(scope="session")
def exported(small_export: Path) -> Path:
    """A model folder with version 1; not to be written to."""
    return small_export


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
