"""Clients of a model server, and the check of a server against an export."""

from ggn_tf.tensorflow_import import import_tensorflow

import_tensorflow()
