"""Admission: how many requests may run and wait, so that a flood is refused at the door instead of filling memory."""

import threading
import time
from collections.abc import Callable, Iterator
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
        self._count = running + waiting
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

    def drain(self, timeout_s: float) -> None:
        """Wait until every request that has a place has left it; nobody gets a place afterwards."""
        ends = time.monotonic() + timeout_s
        for _ in range(self._count):
            if not self._places.acquire(timeout=max(0.0, ends - time.monotonic())):
                return


class Door(grpc.ServerInterceptor):  # type: ignore[misc]
    """Answers UNAVAILABLE once it is closed; gRPC itself cancels what reaches a server that stops.

    Health stays open, so that a probe reads NOT_SERVING.
    """

    def __init__(self) -> None:
        """Open."""
        self._closed = threading.Event()

    def close(self) -> None:
        """Refuse whatever comes from now on."""
        self._closed.set()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Let a call in, or refuse it."""
        if not self._closed.is_set() or handler_call_details.method.startswith("/grpc.health."):
            return continuation(handler_call_details)
        return grpc.unary_unary_rpc_method_handler(_refuse)


def _refuse(request: object, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")
