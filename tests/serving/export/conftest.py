from pathlib import Path

import keras
import numpy as np
import pytest

from ggn_tf.models.systems import build_cascade
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.tasks import THREE_CLASSES
from tests.support.shared_folder import shared_folder
from tests.support.tiny_protocol import TINY


@pytest.fixture(scope="session")
def tiny_model() -> keras.Model:
    """Untrained, but with statistics and biases that are not the neutral ones: a swapped weight would show."""
    model = build_cascade(3, TINY, seed=1)
    generator = np.random.default_rng(1)
    for weight in model.weights:
        if weight.path.endswith(("moving_mean", "beta", "bias")):
            weight.assign(weight.numpy() + generator.normal(0, 0.1, weight.shape))
    return model


@pytest.fixture(scope="session")
def exported(tiny_model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with version 1; not to be written to."""

    def write(folder: Path) -> None:
        export_model(tiny_model, THREE_CLASSES, TINY, folder / "ggn")

    return shared_folder(tmp_path_factory, "cascade-export", write) / "ggn"
