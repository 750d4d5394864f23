"""Admission: how many requests may run and wait, so that a flood is refused at the door instead of filling memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from ggn_tf.serving.status_error import StatusError


class Admission:
    """Places for running and waiting requests.

    Args:
        running: Requests that the graph works on at a time; each already uses all cores.
        waiting: Requests that may wait for one of these places.
    """

    def __init__(self, running: int, waiting: int) -> None:
        """All places are free."""
        self._places = threading.BoundedSemaphore(running + waiting)
        self._runs = threading.BoundedSemaphore(running)
        self._waiting = waiting

    @contextmanager
    def enter(self, timeout_s: float) -> Iterator[None]:
        """Wait for a turn.

        Args:
            timeout_s: What is left of the client's deadline; gRPC gives some centuries to a client without one.

        Raises:
            StatusError: UNAVAILABLE where all places are taken, DEADLINE_EXCEEDED where the turn comes too late.
        """
        if not self._places.acquire(blocking=False):
            raise StatusError(grpc.StatusCode.UNAVAILABLE, f"The queue is full: {self._waiting} requests wait already.")
        try:
            if not self._runs.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX)):
                raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "The deadline passed while the request waited.")
            try:
                yield
            finally:
                self._runs.release()
        finally:
            self._places.release()
