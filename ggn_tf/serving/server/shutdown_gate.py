"""The server's interceptor: it refuses requests that cannot be parsed, and all requests once the server stops."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

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
