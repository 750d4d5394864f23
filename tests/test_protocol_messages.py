"""The protocol's messages without TensorFlow: quick for a client, and no obstacle to TensorFlow afterwards."""

import subprocess
import sys

import pytest


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_client_of_a_server_does_not_import_tensorflow() -> None:
    modules = "ggn_tf.api.load, ggn_tf.serving.client.server_check, ggn_tf.prediction.nodules"
    code = f"import sys, {modules}; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    assert _python(code) == "False False\n"


@pytest.mark.slow
def test_tensorflow_uses_the_same_messages_afterwards() -> None:
    code = (
        "from ggn_tf.serving.contract.tensors import decode; import tensorflow as tf;"
        "from tensorflow.core.framework import tensor_pb2; proto = tf.make_tensor_proto([[1, 2]], tf.int64);"
        "print(isinstance(proto, tensor_pb2.TensorProto), decode(proto).tolist(), tf.__version__ != '')"
    )
    assert _python(code) == "True [[1, 2]] True\n"
