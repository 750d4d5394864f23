"""What client, server and export agree on: names, tensors, messages, recorded requests and checksums.

Importing it does not import TensorFlow.
"""

import ggn_tf.protocol_messages  # noqa: F401 - first: its messages are imported without TensorFlow
