"""A replica's share of a batch, for layers that several devices train on one batch (tf.distribute).

The training loop states by `in_share` which rows of the batch a replica has. The layers that look beyond a single case,
batch normalisation and dropout, then compute what they would on the whole batch. Outside `in_share`, a map is the whole
batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import tensorflow as tf


class BatchShare(NamedTuple):
    """The rows of a batch that a replica has: from `start`, as many as its maps have.

    Attributes:
        start: int32 [], the first row.
        whole: int32 [], the number of rows of the whole batch.
    """

    start: tf.Tensor
    whole: tf.Tensor


_CURRENT: ContextVar[BatchShare | None] = ContextVar("share", default=None)


@contextmanager
def in_share(share: BatchShare) -> Iterator[None]:
    """Treat maps as this share of a batch within the block, which runs in a replica's context."""
    token = _CURRENT.set(share)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_share() -> BatchShare | None:
    """The current share; None where maps are the whole batch."""
    return _CURRENT.get()


def sum_over_replicas(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Every value's sum over all replicas; the gradient of the sum is the sum of the gradients.

    Args:
        values: The same number, shapes and types on every replica. Where maps are the whole batch they are returned
            unchanged.
    """
    if current_share() is None:
        return list(values)
    total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(values))
    return list(total)
