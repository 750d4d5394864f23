"""The names of model, port and program of a server, without the messages that `ggn_tf.serving` imports."""

from typing import Final

MODEL_NAME: Final = "ggn"
PORT: Final = 8500
PROGRAM: Final = "tensorflow_model_server"
"""TensorFlow Serving's own server."""
