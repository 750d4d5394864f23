"""Under which conditions a run trains, and how exactly its numbers can be had again under them."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from ggn_tf.machine import gpus, processor_count, processor_name

_THREADS = "TF_NUM_INTRAOP_THREADS"


def ask_determinism() -> None:
    """Have TensorFlow take deterministic kernels alone, before the first of them runs.

    On a GPU that costs speed. On a CPU the kernels of this network are deterministic as they are.
    """
    tf.config.experimental.enable_op_determinism()


def keep_threads(begun: Mapping[str, Any]) -> None:
    """Let an operation use as many threads as when the run began; only possible before TensorFlow's first operation.

    How many there are decides how sums are split, and so the last bits of a gradient (measured: 1, 2 and 4 threads end
    in three different models; how many operations run at a time makes no difference).

    Args:
        begun: The run's conditions, from `conditions_here`.
    """
    threads = begun.get("threads")
    if threads and threads != threads_of_an_operation():
        # TensorFlow is at work already: `differences` tells.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)


def differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs: a run that goes on is then not the same to the bit as one that never stopped."""
    names = ("device", "threads", "deterministic", "replicas")
    return [f"{name} {begun[name]} -> {now[name]}" for name in names if name in begun and begun[name] != now[name]]


def conditions_here(deterministic: bool, replicas: int = 1) -> dict[str, Any]:
    """What this process trains with.

    Args:
        deterministic: Whether `ask_determinism` was called.
        replicas: How many devices share a batch, over all processes.

    Returns:
        JSON types: `device`, `threads` of an operation, `deterministic`, `replicas`, `bit_for_bit` (whether a run that
        stops and goes on, or is repeated, ends in the same bits), and `why`.
    """
    names = [str(gpu["device_name"]) for gpu in gpus()]
    return {
        "device": ", ".join(names) or processor_name(),
        "threads": threads_of_an_operation(),
        "deterministic": deterministic,
        "replicas": replicas,
        **_promise(bool(names), deterministic),
    }


def _promise(gpu: bool, deterministic: bool) -> dict[str, Any]:
    if not gpu:
        return {"bit_for_bit": True, "why": "on a CPU, with the same kind of processor, versions and threads"}
    if deterministic:
        return {
            "bit_for_bit": True,
            "why": "TensorFlow was asked for determinism; with the same kind of GPU and versions",
        }
    return {"bit_for_bit": False, "why": "a GPU adds up in no fixed order; --deterministic asks it to, and costs speed"}


def threads_of_an_operation() -> int:
    """How many threads share an operation in this process."""
    asked: int = tf.config.threading.get_intra_op_parallelism_threads()
    return asked or int(os.environ.get(_THREADS) or 0) or processor_count()
