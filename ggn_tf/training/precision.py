"""The precision of the convolutions' arithmetic."""

from collections.abc import Collection, Sequence
from typing import Literal

from ggn_tf.machine import gpus, processor_flags

Precision = Literal["float32", "bfloat16"]

_BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")
_AMPERE = (8, 0)


def resolve_precision(choice: Literal["auto", "float32", "bfloat16"]) -> tuple[Precision, str]:
    """Turn `auto` into what this machine's hardware does fast.

    Weights, losses, softmax and statistics are float32 either way.

    Args:
        choice: `auto` chooses bfloat16 if the GPU, or without a GPU the processor, has it in hardware.

    Returns:
        The precision, and the reason.
    """
    if choice != "auto":
        return choice, "as requested"
    return fast_precision([gpu.get("compute_capability", (0, 0)) for gpu in gpus()], processor_flags())


def fast_precision(gpu_capabilities: Sequence[tuple[int, int]], flags: Collection[str]) -> tuple[Precision, str]:
    """The precision that given hardware does fast, and the reason.

    Args:
        gpu_capabilities: NVIDIA's compute capability of every GPU; the first decides.
        flags: The processor's instruction-set flags.
    """
    for major, minor in gpu_capabilities:
        fast = (major, minor) >= _AMPERE
        return ("bfloat16" if fast else "float32"), f"GPU of compute capability {major}.{minor}"
    for flag in _BFLOAT16_FLAGS:
        if flag in flags:
            return "bfloat16", f"the processor has {flag}"
    return "float32", "the processor has no bfloat16 arithmetic"
