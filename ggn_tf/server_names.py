"""The model's name and the port on a server, without the messages that `ggn_tf.serving` imports."""

from typing import Final

MODEL_NAME: Final = "ggn"
PORT: Final = 8500
