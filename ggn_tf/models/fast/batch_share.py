"""A replica's share of a batch: what a layer must know where several devices train on one batch (tf.distribute).

Whoever trains says by `in_share` which rows of the batch a replica holds; the layers that look beyond a single case,
batch normalisation and dropout, then do what they would do on the whole batch. Outside, a map is the whole batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import tensorflow as tf


class BatchShare(NamedTuple):
    """The rows of a batch that a replica holds: `start`, and as many as its maps have.

    Attributes:
        start: int32 [], the first.
        whole: int32 [], how many rows the batch has.
    """

    start: tf.Tensor
    whole: tf.Tensor


_CURRENT: ContextVar[BatchShare | None] = ContextVar("share", default=None)


@contextmanager
def in_share(share: BatchShare) -> Iterator[None]:
    """Within the block, in a replica's own context, maps are this share of a batch."""
    token = _CURRENT.set(share)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_share() -> BatchShare | None:
    """The share that maps are, or None where they are the whole batch."""
    return _CURRENT.get()


def sum_over_replicas(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Every value's sum over all replicas, the same on each; the gradient of the sum is the sum of the gradients.

    Args:
        values: Alike in number, shape and type on every replica. Where maps are the whole batch, they stay as they are.
    """
    if current_share() is None:
        return list(values)
    total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(values))
    return list(total)
