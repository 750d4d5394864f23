"""The server's interceptor: it refuses requests that cannot be parsed, and all requests once the server stops."""

from collections.abc import Awaitable, Callable

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio


class ShutdownGate(aio.ServerInterceptor):  # type: ignore[misc]
    """Answers UNAVAILABLE once it is closed, except for the health service, whose probes then read NOT_SERVING."""

    def __init__(self) -> None:
        self._closed = False

    def close(self) -> None:
        """Refuse all further requests."""
        self._closed = True

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Handle or refuse a request."""
        if self._closed and not handler_call_details.method.startswith("/grpc.health."):
            return grpc.unary_unary_rpc_method_handler(_refuse)
        return _parsing(await continuation(handler_call_details))


async def _refuse(request: object, context: aio.ServicerContext) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")


def _parsing(handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    """Answer INTERNAL, as gRPC's C++ servers do, if a request cannot be parsed; Python's answer UNKNOWN."""
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
