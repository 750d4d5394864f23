"""The door of the server: it turns away what is no message, and everybody once the server stops."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

_HELD_S = 0.1


class ShutdownGate(aio.ServerInterceptor):  # type: ignore[misc]
    """Answers UNAVAILABLE once it is closed. Health stays open, so that a probe reads NOT_SERVING.

    gRPC itself cancels what reaches a server in the moment in which it stops. So the last refusals are held back over
    that moment: a client that waits for its answer sends nothing.
    """

    def __init__(self) -> None:
        """Open."""
        self._closed = False
        self._answers = asyncio.Event()
        self._answers.set()

    def close(self) -> None:
        """Refuse whatever comes from now on."""
        self._closed = True

    async def stop(self, server: aio.Server, grace_s: float) -> None:
        """Stop the server, holding refusals back meanwhile."""
        self._answers.clear()
        await asyncio.sleep(_HELD_S)
        stopped = asyncio.ensure_future(server.stop(max(grace_s, 1.0)))
        await asyncio.sleep(_HELD_S)
        self._answers.set()
        await stopped

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Let a call in, or refuse it."""
        if not self._closed or handler_call_details.method.startswith("/grpc.health."):
            return _parsing(await continuation(handler_call_details))
        return grpc.unary_unary_rpc_method_handler(self._refuse)

    async def _refuse(self, request: object, context: aio.ServicerContext) -> None:
        await self._answers.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")


def _parsing(handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    """Answer INTERNAL, as gRPC's C++ servers do, where a request is no message; Python's would say UNKNOWN."""
    if handler is None or handler.unary_unary is None:
        return handler

    def parse(raw: bytes) -> Message | None:
        try:
            return handler.request_deserializer(raw)
        except DecodeError:
            return None

    async def answer(request: Message | None, context: aio.ServicerContext) -> Message:
        if request is None:
            await context.abort(grpc.StatusCode.INTERNAL, "The request cannot be parsed.")
        return await handler.unary_unary(request, context)

    return grpc.unary_unary_rpc_method_handler(answer, parse, handler.response_serializer)
