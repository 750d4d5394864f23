"""Request limits: how many requests may run and wait, so that a flood is refused instead of filling the memory."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import grpc

from ggn_tf.serving.contract.status_error import StatusError

Result = TypeVar("Result")


class RequestLimits:
    """Slots for running and waiting requests, and the threads that run them.

    A waiting request that is cancelled, because its client left or its deadline passed, frees its slot; a running one
    is completed.

    Args:
        running: Requests that run in parallel.
        waiting: Requests that may wait for one of these to end.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._slots = threading.BoundedSemaphore(running + waiting)
        self._count = running + waiting
        self._waiting = waiting
        self._threads = ThreadPoolExecutor(running, "predict")

    def submit(self, resources: ExitStack, work: Callable[[], Result]) -> "Future[Result]":
        """Queue work for a thread.

        Args:
            resources: What the work needs; closed once it is done or will never run.
            work: Called in a thread.

        Raises:
            StatusError: UNAVAILABLE if all slots are taken.
        """
        if not self._slots.acquire(blocking=False):
            raise StatusError(grpc.StatusCode.UNAVAILABLE, f"The queue is full: {self._waiting} requests are waiting.")
        resources.callback(self._slots.release)
        future = self._threads.submit(work)
        kept = resources.pop_all()
        future.add_done_callback(lambda _: kept.close())
        return future

    def drain(self, timeout_s: float) -> None:
        """Wait until every request has ended; from then on no slot is free."""
        ends = time.monotonic() + timeout_s
        for _ in range(self._count):
            if not self._slots.acquire(timeout=max(0.0, ends - time.monotonic())):
                break
        self._threads.shutdown(wait=False, cancel_futures=True)
