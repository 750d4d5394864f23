"""The machines that train together, and this process's rank among them, from `TF_CONFIG` (tf.distribute)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from ggn_tf.errors import RunError
from ggn_tf.training.distributed.replicas import SharedReplicas, worker_loss_as_error
from ggn_tf.training.replicas import ONE_REPLICA, Replicas

Strategy = Literal["one", "mirrored", "multiworker"]

_VARIABLE = "TF_CONFIG"
_ROLES = ("chief", "worker")


@dataclass(frozen=True)
class Rank:
    """A process among those that train together.

    Attributes:
        strategy: The devices that share a batch: `one`; all GPUs of this machine, or without any its logical CPUs
            (`mirrored`); or those of all machines in `TF_CONFIG` (`multiworker`).
        worker: Number of the process; 0 is the chief.
        workers: Number of processes.
    """

    strategy: Strategy = "one"
    worker: int = 0
    workers: int = 1

    @property
    def is_chief(self) -> bool:
        """Whether this process reads and writes the run folder."""
        return self.worker == 0

    @property
    def expected_replicas(self) -> int:
        """Number of devices that `connect_replicas` will find if every machine has as many GPUs as this one."""
        devices = max(1, len(tf.config.list_physical_devices("GPU")))
        return {"one": 1, "mirrored": devices, "multiworker": devices * self.workers}[self.strategy]


def rank_of(strategy: Strategy, environment: Mapping[str, str]) -> Rank:
    """The rank of this process, determined without TensorFlow.

    Raises:
        RunError: `TF_CONFIG` is missing or invalid, or it is set although the strategy is `mirrored`, which would read
            it.
    """
    if strategy == "mirrored" and _VARIABLE in environment:
        raise RunError(
            "The strategy mirrored is for the devices of one machine.",
            case=f"environment variable {_VARIABLE}",
            found=environment[_VARIABLE] or "set, and empty",
            expected="not set",
            remedy="Unset it, or use the strategy multiworker to train on all its machines.",
            arguments=("strategy",),
        )
    if strategy != "multiworker":
        return Rank(strategy)
    text = environment.get(_VARIABLE, "")
    try:
        config = json.loads(text)
        machines = [(role, index) for role in _ROLES for index, _ in enumerate(config["cluster"].get(role, []))]
        if set(config["cluster"]) - set(_ROLES):
            raise ValueError(f"roles {', '.join(config['cluster'])}")
        worker = machines.index((config["task"]["type"], int(config["task"]["index"])))
        return Rank(strategy, worker, len(machines))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        example = {"cluster": {"worker": ["HOST0:2222", "HOST1:2222"]}, "task": {"type": "worker", "index": 0}}
        raise RunError(
            "The machines that train together are unknown.",
            case=f"environment variable {_VARIABLE}",
            found=f"{text} ({type(error).__name__}: {error})" if text else "not set",
            expected=f"for the first of two machines {json.dumps(example)}",
            remedy="Set it on every machine, each with its own index, and start the same command on all of them.",
        ) from error


def connect_replicas(rank: Rank, batch_size: int) -> Replicas:
    """Connect the replicas, waiting for other machines. Must be called before TensorFlow's first operation.

    Raises:
        RunError: There are more replicas than cases in a batch (of all replicas), or the other machines cannot be
            reached.
    """
    replicas = _connect(rank)
    if replicas.count > batch_size:
        raise RunError(
            "There are more devices than cases in a batch.",
            found=f"{replicas.count} devices, batches of {batch_size}",
            expected="at least one case for each device",
            remedy="Use fewer machines or a larger batch.",
            arguments=("batch_size",),
        )
    return replicas


def _connect(rank: Rank) -> Replicas:
    if rank.strategy == "multiworker" and rank.expected_replicas > 1:
        with worker_loss_as_error(rank.worker, rank.workers):
            return SharedReplicas(tf.distribute.MultiWorkerMirroredStrategy(), rank.worker, rank.workers)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if rank.strategy != "mirrored" or len(devices) == 1:
        return ONE_REPLICA
    return SharedReplicas(tf.distribute.MirroredStrategy([device.name for device in devices]))
