"""Export to SavedModel, and server and client of TensorFlow Serving's protocol."""

import ggn_tf.protocol_messages  # noqa: F401 - before others import the messages, and with them TensorFlow
