"""Admission: how many requests may run and wait, so that a flood is refused at the door instead of filling memory."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import grpc

from ggn_tf.serving.contract.status_error import StatusError

Answer = TypeVar("Answer")


class RequestLimits:
    """Places for running and waiting requests, and the threads that run them.

    A request that is cancelled while it waits, because its client left or its deadline passed, gives its place back;
    one that runs, runs to its end.

    Args:
        running: Requests that the graph works on at a time.
        waiting: Requests that may wait for one of these places.
    """

    def __init__(self, running: int, waiting: int) -> None:
        """All places are free."""
        self._places = threading.BoundedSemaphore(running + waiting)
        self._count = running + waiting
        self._waiting = waiting
        self._threads = ThreadPoolExecutor(running, "predict")

    def submit(self, held: ExitStack, work: Callable[[], Answer]) -> "Future[Answer]":
        """Have something done when its turn comes.

        Args:
            held: What the work needs; closed once it is done or will never be.
            work: To be called in a thread.

        Raises:
            StatusError: UNAVAILABLE where all places are taken.
        """
        if not self._places.acquire(blocking=False):
            raise StatusError(grpc.StatusCode.UNAVAILABLE, f"The queue is full: {self._waiting} requests wait already.")
        held.callback(self._places.release)
        future = self._threads.submit(work)
        kept = held.pop_all()
        future.add_done_callback(lambda _: kept.close())
        return future

    def drain(self, timeout_s: float) -> None:
        """Wait until every request that has a place has left it; nobody gets a place afterwards."""
        ends = time.monotonic() + timeout_s
        for _ in range(self._count):
            if not self._places.acquire(timeout=max(0.0, ends - time.monotonic())):
                break
        self._threads.shutdown(wait=False, cancel_futures=True)
