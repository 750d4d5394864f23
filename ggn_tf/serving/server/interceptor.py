"""How requests arrive: in bounded time and memory, parsed only once they are admitted, and refused during a stop."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

_RECEIVE_S = 60.0
"""Longest time in which a request must arrive, and a response must be taken."""
_MOST_ARRIVING = 64
"""Requests that arrive at a time, each up to the largest message: of further ones the one that began first ends."""
_MOST_SENDING_BYTES = 2**28
"""Responses that clients have not taken, or twice the largest: beyond, the connection with most is refused or ended."""
_MOST_STREAMS = 100
"""Streams of the health service (Watch)."""
_LARGEST_SMALL_BYTES = 2**16
"""Largest message of a method that takes no tensors."""
_DELAY_S = 0.1

_Context: TypeAlias = aio.ServicerContext
_Handler: TypeAlias = Callable[[Any, _Context], Awaitable[Any]]


class RequestInterceptor(aio.ServerInterceptor):  # type: ignore[misc]
    """Receives the requests of all methods, and refuses them as UNAVAILABLE once it is closed.

    A method without a deserializer gets the bytes of a message, to be parsed when it is admitted. The health service is
    never refused: its probes read NOT_SERVING. A request that arrives while gRPC's server stops would be CANCELLED,
    which clients do not retry. So refusals are delayed until then: a client that waits for its response sends nothing.

    Args:
        close_connection: Closes a client's connection. Until then gRPC keeps a response that is not taken, also of a
            cancelled request, and twice.
    """

    def __init__(self, close_connection: Callable[[str], None]) -> None:
        self._close_connection = close_connection
        self._closed = False
        self._refusing = asyncio.Event()
        self._refusing.set()
        self._arriving: dict[asyncio.Future[None], None] = {}
        self._sending: dict[asyncio.Task[Any], tuple[str, int]] = {}
        self._streams = 0

    async def close(self) -> None:
        """Refuse all further requests, and those that have not arrived completely."""
        self._closed = True
        for slow in self._arriving:
            slow.cancel()

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
    ) -> grpc.RpcMethodHandler | None:
        """Handle or refuse a request. A handler of streams receives its message within our time limit."""
        if self._closed and not handler_call_details.method.startswith("/grpc.health."):
            return grpc.unary_unary_rpc_method_handler(self._refuse)
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        parse, serialize = handler.request_deserializer, handler.response_serializer
        if handler.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(self._receiving(handler.unary_unary, parse), None, serialize)
        watch = self._receiving(self._counted(handler.unary_stream), parse)
        return grpc.stream_stream_rpc_method_handler(watch, None, serialize)

    def _receiving(self, respond: _Handler, parse: Callable[[bytes], Any] | None) -> _Handler:
        async def handle(_: object, context: _Context) -> Any:
            response = await respond(await self._message(context, parse), context)
            if not self._may_send(context.peer(), len(response) if isinstance(response, bytes) else 0):
                del response
                await context.abort(grpc.StatusCode.UNAVAILABLE, "This connection takes its responses too slowly.")
            return response

        return handle

    async def _message(self, context: _Context, parse: Callable[[bytes], Any] | None) -> Any:
        raw = await self._received(context)
        if parse is None:
            return raw
        if len(raw) > _LARGEST_SMALL_BYTES:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"The message has over {_LARGEST_SMALL_BYTES} bytes.")
        try:
            return parse(raw)
        except DecodeError:
            await context.abort(grpc.StatusCode.INTERNAL, "The request cannot be parsed.")

    async def _received(self, context: _Context) -> bytes:
        """The bytes of the message. A reading that is given up ends by itself with its stream."""
        if len(self._arriving) >= _MOST_ARRIVING:
            # Removed at once: of several requests that begin together, each ends another one.
            oldest = next(iter(self._arriving))
            del self._arriving[oldest]
            oldest.cancel()
        loop = asyncio.get_running_loop()
        slow: asyncio.Future[None] = loop.create_future()
        self._arriving[slow] = None
        timer = loop.call_later(_RECEIVE_S, slow.cancel)
        reading = asyncio.ensure_future(context.read())
        reading.add_done_callback(_ignore_errors)
        try:
            await asyncio.wait((reading, slow), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            self._arriving.pop(slow, None)
        if not reading.done():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "The request did not arrive in time.")
        raw = reading.result()
        if not isinstance(raw, bytes):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The request has no message.")
        return raw  # type: ignore[no-any-return]

    def _counted(self, watch: _Handler) -> _Handler:
        async def handle(request: Any, context: _Context) -> None:
            if self._streams >= _MOST_STREAMS:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MOST_STREAMS} streams are open.")
            self._streams += 1
            try:
                await watch(request, context)
            finally:
                self._streams -= 1

        return handle

    def _may_send(self, connection: str, size: int) -> bool:
        """Count a response until it is sent; False if its connection has the most bytes that are not taken."""
        task = asyncio.current_task()
        if task is None:
            return True
        self._sending[task] = connection, size
        while fullest := self._fullest():
            if fullest == connection:
                del self._sending[task]
                return False
            self._close(fullest)
        timer = asyncio.get_running_loop().call_later(_RECEIVE_S, self._close, connection)

        def end(sent: asyncio.Task[Any]) -> None:
            timer.cancel()
            self._sending.pop(sent, None)

        task.add_done_callback(end)
        return True

    def _fullest(self) -> str | None:
        """The connection with the most bytes that are not taken; None while all together are few enough."""
        held: Counter[str] = Counter()
        for connection, size in self._sending.values():
            held[connection] += size
        most = max(_MOST_SENDING_BYTES, 2 * max((size for _, size in self._sending.values()), default=0))
        return max(held, key=held.__getitem__) if held.total() > most else None

    def _close(self, connection: str) -> None:
        for task in [task for task, (name, _) in self._sending.items() if name == connection]:
            del self._sending[task]
            task.cancel()
        self._close_connection(connection)

    async def _refuse(self, request: object, context: _Context) -> None:
        await self._refusing.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")


def _ignore_errors(reading: "asyncio.Future[object]") -> None:
    if not reading.cancelled():
        reading.exception()
