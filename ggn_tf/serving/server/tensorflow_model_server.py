"""The command line of TensorFlow Serving's own program, `tensorflow_model_server`."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ggn_tf.errors import ServingError
from ggn_tf.server_names import PROGRAM

EVERY_INTERFACE = "0.0.0.0"


def program_command(folder: Path, model_name: str, host: str, port: int, flags: Sequence[str] = ()) -> list[str]:
    """The command that serves a model folder; paths are absolute, further flags are in the program's own form.

    Raises:
        ServingError: The program is not on PATH, or cannot listen on this host: it supports only `EVERY_INTERFACE`.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise ServingError(
            "TensorFlow Serving is not installed.",
            case=PROGRAM,
            found="no such program on PATH",
            expected="the program, from its vendor's apt repository",
            remedy="Install it, start its Docker image with serving/compose.yaml, or use the embedded server.",
            arguments=("engine",),
        )
    if host != EVERY_INTERFACE:
        raise ServingError(
            "TensorFlow Serving listens on every interface of the machine, without encryption.",
            case=PROGRAM,
            found=f"host {host}",
            expected=f"host {EVERY_INTERFACE}",
            remedy=f"Confirm it with the host {EVERY_INTERFACE} if a firewall protects the machine; "
            "serving/compose.yaml publishes on loopback only.",
            arguments=("host",),
        )
    basic = {"port": port, "model_name": model_name, "model_base_path": folder.absolute()}
    return [program, *(f"--{name}={value}" for name, value in basic.items()), *map(_with_absolute_path, flags)]


def _with_absolute_path(flag: str) -> str:
    named = re.fullmatch(r"(--\w+_file)=(.+)", flag)
    return f"{named[1]}={Path(named[2]).absolute()}" if named else flag
