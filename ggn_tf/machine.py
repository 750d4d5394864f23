"""Facts about this machine: processor, memory and GPUs, and the precision that they compute fast."""

import importlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

_CPUINFO = Path("/proc/cpuinfo")
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def processor_name() -> str:
    """The processor's model name; "CPU" where the system does not say."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo().splitlines() if line.startswith("model name")]
    return names[0] if names else "CPU"


def processor_flags() -> frozenset[str]:
    """The processor's vendor and instruction-set flags, for example `amx_bf16`; empty where the system does not say."""
    return frozenset(_cpuinfo().split())


def processor_count() -> int:
    """Number of processors that this process may use; a container or scheduler may grant fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Memory of the machine, or of the container if that is less; None where the system does not say."""
    if not hasattr(os, "sysconf"):
        return None
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CONTAINER_LIMIT.read_text(encoding="utf-8").strip() if _CONTAINER_LIMIT.exists() else "max"
    return min(machine, int(limit)) if limit.isdecimal() else machine


def gpus() -> list[dict[str, Any]]:
    """TensorFlow's details of every GPU it can use: `device_name` and, for NVIDIA, `compute_capability`."""
    # Not imported at the top: the facts about the processor are needed where TensorFlow is not.
    tf = importlib.import_module("tensorflow")
    return [
        {"device_name": gpu.name, **tf.config.experimental.get_device_details(gpu)}
        for gpu in tf.config.list_physical_devices("GPU")
    ]


def _cpuinfo() -> str:
    return _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.exists() else ""


Precision = Literal["float32", "bfloat16"]

_SLOW_BFLOAT16 = frozenset({"GenuineIntel", "avx512_fp16"})
"""Intel's processors since Sapphire Rapids. Without AMX, which a virtual machine may hide, float32 is faster: measured
on one (family 6, model 207)."""
_AMPERE = (8, 0)


def resolve_precision(choice: Literal["auto", "float32", "bfloat16"]) -> tuple[Precision, str]:
    """Turn `auto` into what this machine's hardware does fast.

    Weights, losses, softmax and statistics are float32 either way.

    Returns:
        The precision, and the reason.
    """
    if choice != "auto":
        return choice, "as requested"
    return fast_precision([gpu.get("compute_capability", (0, 0)) for gpu in gpus()], processor_flags())


def fast_precision(gpu_capabilities: Sequence[tuple[int, int]], flags: Collection[str]) -> tuple[Precision, str]:
    """The precision that given hardware does fast, and the reason.

    Takes NVIDIA's compute capability of every GPU, of which the first decides, and the processor's flags
    and vendor.
    """
    for major, minor in gpu_capabilities:
        fast = (major, minor) >= _AMPERE
        return ("bfloat16" if fast else "float32"), f"GPU of compute capability {major}.{minor}"
    if "amx_bf16" in flags:
        return "bfloat16", "the processor has amx_bf16"
    if "avx512_bf16" in flags:
        if set(flags) >= _SLOW_BFLOAT16:
            return "float32", "the processor has avx512_bf16, but it is slower than float32"
        return "bfloat16", "the processor has avx512_bf16"
    return "float32", "the processor has no bfloat16 arithmetic"
