"""A command in a process of its own that must not import TensorFlow."""

import subprocess
import sys

_SCRIPT = """
import sys
from ggn_tf.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    sys.exit(100 if "tensorflow" in sys.modules else end.code)
"""


def exit_without_tensorflow(*arguments: object) -> int:
    """The command's exit code; 100 if it has imported TensorFlow."""
    return subprocess.run([sys.executable, "-c", _SCRIPT, *map(str, arguments)], timeout=120).returncode
