import subprocess
import sys


def test_tensorflow_says_nothing_but_errors():
    """In a process of its own: this one has imported TensorFlow long ago."""
    code = (
        "from ggn_tf.tensorflow_import import load_tensorflow; load_tensorflow(); import tensorflow as tf; "
        "tf.get_logger().warning('chatter'); tf.get_logger().error('trouble')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert told.stdout == ""
    assert told.stderr.splitlines() == ["ERROR:tensorflow:trouble"]
