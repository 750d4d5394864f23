"""The environment of a run, and how exactly its results can be reproduced in it."""

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import tensorflow as tf

from ggn_tf.machine import gpus, processor_count, processor_name

_THREADS = "TF_NUM_INTRAOP_THREADS"
# Variables by which TensorFlow and the libraries below it choose kernels: oneDNN, MKL, XLA, cuBLAS, cuDNN, ROCm's, and
# the C library's mathematics.
_KERNELS = re.compile(
    r"(ONEDNN|DNNL|MKL|CUBLAS|CUBLASLT|CUDNN|NVIDIA_TF32|MIOPEN|ROCBLAS|HIPBLASLT)_.+|XLA_FLAGS|GLIBC_TUNABLES"
    r"|TF_(XLA|ONEDNN|MKL|CUDNN|CUBLAS|ROCM|ENABLE|DISABLE|USE|DETERMINISTIC|FP16|AUTO|AUTOTUNE)_.+"
)
# Of these, what only describes, or has no effect here.
_OTHER = re.compile(r".*(VERBOSE|LOG|DUMP|PROFIL|CACHE|NUM_THREADS|LEGACY_KERAS).*")
# A flag of a variable of several; its value may be quoted.
_FLAG = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*'|["'])+""")
# A flag that writes files, or is a path, which would record the names of folders.
_FILES = re.compile(r"[^=]*dump.*|.*[/\\].*", re.IGNORECASE | re.DOTALL)


class Exactness(StrEnum):
    """How exactly a run's results can be reproduced."""

    CPU = "cpu"
    DETERMINISTIC_GPU = "deterministic_gpu"
    GPU = "gpu"

    @property
    def bit_for_bit(self) -> bool:
        """Whether a run that is interrupted and resumed, or repeated, ends in the same bits."""
        return self is not Exactness.GPU

    @property
    def text(self) -> str:
        """On which condition, or why not."""
        return _TEXTS[self]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments that make it bit for bit."""
        return () if self.bit_for_bit else ("deterministic",)


_TEXTS = {
    Exactness.CPU: "on a CPU, with the same kind of processor, versions, threads and kernel settings",
    Exactness.DETERMINISTIC_GPU: "with deterministic kernels, on the same kind of GPU, with the same versions and "
    "kernel settings",
    Exactness.GPU: "a GPU adds up in no fixed order; deterministic kernels do, at the cost of speed",
}


@dataclass(frozen=True)
class Conditions:
    """What a process trains with; replicas are the devices that share a batch, over all processes.

    `kernels` are the environment variables that choose kernels, with their values; paths are left out.
    """

    device: str
    threads: int
    deterministic: bool
    replicas: int
    exactness: Exactness
    kernels: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, for `run.json` and the ledger."""
        return {
            **{name: getattr(self, name) for name in _COMPARED},
            _ENVIRONMENT: dict(self.kernels),
            "bit_for_bit": self.exactness.bit_for_bit,
            "why": self.exactness.text,
        }


_COMPARED = ("device", "threads", "deterministic", "replicas")
_ENVIRONMENT = "kernels"
_UNSET = "not set"


@dataclass(frozen=True)
class Difference:
    """A condition that is not what it was when the run began."""

    name: str
    begun: Any
    now: Any

    def __str__(self) -> str:
        """For a person."""
        return f"{self.name} {self.begun} -> {self.now}"


def request_determinism() -> None:
    """Restrict TensorFlow to deterministic kernels, before the first of them runs.

    On a GPU that costs speed. On a CPU the kernels of this network are deterministic without it.
    """
    tf.config.experimental.enable_op_determinism()


def keep_threads(begun: Mapping[str, Any]) -> None:
    """Give an operation as many threads as when the run began. Only possible before TensorFlow's first operation.

    Their number decides how sums are split, and so the last bits of a gradient (measured: 1, 2 and 4 threads end in
    three different models; the number of operations that run in parallel makes no difference).
    """
    threads = begun.get("threads")
    if threads and threads != threads_of_an_operation():
        # TensorFlow runs already: `differences` reports it.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)


def differences(begun: Mapping[str, Any], now: Conditions) -> tuple[Difference, ...]:
    """What differs. A run that is resumed then does not end in the bits of one that was never interrupted."""
    pairs = {name: (begun.get(name), getattr(now, name)) for name in _COMPARED if name in begun}
    # Runs of 0.1.0 do not have them.
    former = begun.get(_ENVIRONMENT, now.kernels)
    pairs |= {name: (former.get(name, _UNSET), now.kernels.get(name, _UNSET)) for name in {**former, **now.kernels}}
    return tuple(Difference(name, before, after) for name, (before, after) in pairs.items() if before != after)


def conditions_here(deterministic: bool, replicas: int = 1) -> Conditions:
    """What this process trains with."""
    names = [str(gpu["device_name"]) for gpu in gpus()]
    on_gpu = Exactness.DETERMINISTIC_GPU if deterministic else Exactness.GPU
    return Conditions(
        device=", ".join(names) or processor_name(),
        threads=threads_of_an_operation(),
        deterministic=deterministic,
        replicas=replicas,
        exactness=on_gpu if names else Exactness.CPU,
        kernels=kernel_variables(os.environ),
    )


def kernel_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that choose kernels, and so the last bits, by name; without paths."""
    chosen = {
        name: " ".join(flag for flag in _FLAG.findall(environment[name]) if not _FILES.fullmatch(flag))
        for name in sorted(environment)
        if _KERNELS.fullmatch(name) and not _OTHER.fullmatch(name)
    }
    return {name: value for name, value in chosen.items() if value}


def threads_of_an_operation() -> int:
    """Number of threads that share an operation in this process."""
    configured: int = tf.config.threading.get_intra_op_parallelism_threads()
    return configured or int(os.environ.get(_THREADS) or 0) or processor_count()
