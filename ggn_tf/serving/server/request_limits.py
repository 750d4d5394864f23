"""Which requests the server takes: limits of those that run and wait, and none once it stops.

A flood of requests is refused instead of filling the memory, and so is a request that cannot be parsed.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from ggn_tf.serving.runtime.servable import StatusError

Result = TypeVar("Result")


class RequestLimits:
    """Slots for running and waiting requests, and the threads that run them.

    A waiting request that is cancelled, because its client left or its deadline passed, frees its slot; a running one
    is completed.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._slots = threading.BoundedSemaphore(running + waiting)
        self._count = running + waiting
        self._waiting = waiting
        self._threads = ThreadPoolExecutor(running, "predict")

    def submit(self, resources: ExitStack, work: Callable[[], Result]) -> "Future[Result]":
        """Queue work for a thread; raises StatusError UNAVAILABLE if all slots are taken."""
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


_DELAY_S = 0.1


class ShutdownGate(aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses requests as UNAVAILABLE once it is closed, except for the health service, whose probes read NOT_SERVING.

    A request that arrives while gRPC's server stops would be CANCELLED, which clients do not retry. So refusals are
    delayed until then: a client that waits for its response sends nothing.
    """

    def __init__(self) -> None:
        self._closed = False
        self._refusing = asyncio.Event()
        self._refusing.set()

    def close(self) -> None:
        """Refuse all further requests."""
        self._closed = True

    async def stop(self, server: aio.Server, grace_s: float) -> None:
        """Stop the server while refusals are delayed."""
        self._refusing.clear()
        await asyncio.sleep(_DELAY_S)
        stopped = asyncio.ensure_future(server.stop(max(grace_s, 1.0)))
        await asyncio.sleep(_DELAY_S)
        self._refusing.set()
        await stopped

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Handle or refuse a request."""
        if self._closed and not handler_call_details.method.startswith("/grpc.health."):
            return grpc.unary_unary_rpc_method_handler(self._refuse)
        return _parsing(await continuation(handler_call_details))

    async def _refuse(self, request: object, context: aio.ServicerContext) -> None:
        await self._refusing.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")


def _parsing(handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    """Refuse a request that cannot be parsed as INTERNAL, as gRPC's C++ servers do; Python's would say UNKNOWN."""
    if handler is None or handler.unary_unary is None:
        return handler

    def parse(raw: bytes) -> Message | None:
        try:
            return handler.request_deserializer(raw)
        except DecodeError:
            return None

    async def handle(request: Message | None, context: aio.ServicerContext) -> Message:
        if request is None:
            await context.abort(grpc.StatusCode.INTERNAL, "The request cannot be parsed.")
        return await handler.unary_unary(request, context)

    return grpc.unary_unary_rpc_method_handler(handle, parse, handler.response_serializer)
