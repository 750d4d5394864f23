"""Commands in a process of their own that must not import TensorFlow."""

import json
import subprocess
import sys
from collections.abc import Sequence

_SCRIPT = """
import json, sys
from ggn_tf.cli import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as end:
        print(100 if "tensorflow" in sys.modules or "keras" in sys.modules else end.code, file=sys.stderr)
"""


def exits_without_tensorflow(*commands: Sequence[object]) -> list[int]:
    """The exit codes of commands, one after the other; 100 from the first on that has imported TensorFlow or Keras."""
    listed = json.dumps([[str(part) for part in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", _SCRIPT, listed], stderr=subprocess.PIPE, text=True, timeout=120)
    return [int(line) for line in done.stderr.splitlines() if line.isdigit()]
