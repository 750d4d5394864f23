"""`python -m tests.support.tiny_export FOLDER` writes the next version of a model folder, a small cascade."""

import sys
from pathlib import Path

import keras

from ggn_tf.models.systems import build_cascade
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.tasks import THREE_CLASSES
from tests.support.tiny_cascade import TINY


def build() -> keras.Model:
    return build_cascade(3, TINY, seed=1)


if __name__ == "__main__":
    export_model(build(), THREE_CLASSES, TINY, Path(sys.argv[1]))
