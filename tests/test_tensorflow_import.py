import subprocess
import sys


def test_tensorflow_logs_errors_only():
    """In another process, because this one has imported TensorFlow already."""
    code = (
        "from ggn_tf.tensorflow_import import load_tensorflow; load_tensorflow(); import tensorflow as tf; "
        "tf.get_logger().warning('chatter'); tf.get_logger().error('trouble')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["ERROR:tensorflow:trouble"]
