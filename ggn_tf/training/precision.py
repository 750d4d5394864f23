"""Which arithmetic the convolutions run in."""

from pathlib import Path
from typing import Literal

import tensorflow as tf

Precision = Literal["float32", "bfloat16"]

_BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")
_AMPERE = (8, 0)


def resolve_precision(
    asked: Literal["auto", "float32", "bfloat16"], cpuinfo: str | None = None
) -> tuple[Precision, str]:
    """Turn `auto` into what the hardware does fast.

    Weights, losses, softmax and statistics are float32 either way.

    Args:
        asked: `auto` takes bfloat16 where the GPU, or without one the processor, has it in hardware.
        cpuinfo: Text of /proc/cpuinfo; None reads it.

    Returns:
        The precision, and why.
    """
    if asked != "auto":
        return asked, "as asked"
    for gpu in tf.config.list_physical_devices("GPU"):
        capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        fast = capability >= _AMPERE
        return ("bfloat16" if fast else "float32"), f"GPU of compute capability {capability[0]}.{capability[1]}"
    flags = _processor_flags() if cpuinfo is None else cpuinfo
    for flag in _BFLOAT16_FLAGS:
        if flag in flags.split():
            return "bfloat16", f"the processor has {flag}"
    return "float32", "the processor has no bfloat16 arithmetic"


def _processor_flags() -> str:
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.exists() else ""
