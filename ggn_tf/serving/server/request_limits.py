"""Which requests run, which wait, and which are refused: fair turns of the connections that send them."""

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import grpc

from ggn_tf.serving.runtime.servable import StatusError

Result = TypeVar("Result")

_REFUSAL_S = 0.25
"""Delay of a refusal: a client that repeats it at once must not take the processor."""
_DELAY_S, _MOST_WASTED, _WASTED_S = 0.01, 25, 10.0
"""Delay of a request for each one that its connection has wasted, at most so many, each until another has a response or
so long."""
_MOST_BEGUN = 8
"""Requests that wait for a further turn; they are in memory, and no more of them are interrupted."""
_MOST_REMEMBERED = 1000
"""Connections whose used time is remembered while they send nothing."""


@dataclass(frozen=True)
class _Ended(Generic[Result]):
    """The response of a request."""

    value: Result


@dataclass(frozen=True, eq=False)
class _Ticket:
    """A request that waits for a thread, and the bytes of its message."""

    granted: "asyncio.Future[None]"
    large: bool
    size: int


class _QueueFullError(StatusError):
    """UNAVAILABLE: the request cannot wait."""

    def __init__(self, message: str) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, message)


@dataclass
class _Connection:
    """What a connection has used, seconds of a thread, and its requests that run, wait and were wasted."""

    used_s: float
    running: int = 0
    waiting: deque[_Ticket] = field(default_factory=deque)
    wasted_at: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_WASTED))

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    @property
    def wasted(self) -> int:
        while self.wasted_at and self.wasted_at[0] <= time.monotonic() - _WASTED_S:
            self.wasted_at.popleft()
        return len(self.wasted_at)

    @property
    def waiting_bytes(self) -> int:
        return sum(ticket.size for ticket in self.waiting)


class RequestLimits:
    """Threads that run requests, and a queue in which requests wait before anything of them is parsed.

    The next request is the oldest of the connection that has used the least time, so that a connection with many or
    large requests delays the others by no more than its share; time counts more for a connection with many waiting
    requests, or whose client has wasted many: abandoned them, or sent wrong ones. The latter's requests are delayed,
    until as many had a response, or ten seconds have passed. A large request runs in parts, each in a turn of its own;
    while small requests wait, large ones take no more than half of the threads. If the queue is full, the connection
    with the most waiting requests, or bytes, loses its newest. A request that is cancelled, because its client left or
    its deadline passed, leaves the queue, and ends after the part that runs. All methods are called in one event loop.
    """

    def __init__(self, running: int, waiting: int, waiting_bytes: int = sys.maxsize) -> None:
        self._most_waiting = waiting
        self._most_bytes = waiting_bytes
        self._most_delayed = max(waiting, 1)
        self._most_delayed_bytes = waiting_bytes // 2
        self._waiting = 0
        self._waiting_bytes = 0
        self._delayed = 0
        self._delayed_bytes = 0
        self._begun = 0
        self._free = running
        self._running = running
        self._large = 0
        self._threads = ThreadPoolExecutor(running, "predict")
        self._connections: dict[str, _Connection] = {}
        self._floor_s = 0.0
        self._ended = asyncio.Event()

    async def run(
        self, connection: str, parts: Generator[None, None, Result], *, large: bool = False, size: int = 0
    ) -> Result:
        """Run a request in threads, a part at a time, each after the requests whose turn is first.

        Args:
            connection: Whose request it is.
            parts: Yields between its parts, and returns the response.
            large: Whether a part may take far longer than a usual request.
            size: Bytes that the request keeps while it waits.

        Raises:
            StatusError: UNAVAILABLE, the queue is full.
        """
        try:
            if wasted := self._sender(connection).wasted:
                # A client that abandons its requests at once has left before its next one takes a thread.
                await self._delay(_DELAY_S * wasted, size)
            return await self._run_counted(connection, parts, large, size)
        except _QueueFullError:
            # Its message does not stay in memory until the refusal is sent.
            parts.close()
            await asyncio.sleep(_REFUSAL_S)
            raise

    async def _run_counted(
        self, connection: str, parts: Generator[None, None, Result], large: bool, size: int
    ) -> Result:
        """Run a request, and count whether it is wasted; not during its delay, which is longer than some deadlines."""
        try:
            await self._turn(connection, large, size)
            response = await self._run_all(connection, parts, large)
        except (asyncio.CancelledError, StatusError) as error:
            if not isinstance(error, StatusError) or error.by_client:
                self._sender(connection).wasted_at.append(time.monotonic())
            raise
        sender = self._sender(connection)
        if sender.wasted:
            sender.wasted_at.popleft()
        return response

    async def _delay(self, seconds: float, size: int) -> None:
        too_large = self._delayed_bytes + size > self._most_delayed_bytes
        # One of any size is delayed, so that a server that is idle refuses none.
        if self._delayed and (too_large or self._delayed >= self._most_delayed):
            raise _QueueFullError(
                "Requests of connections that abandon them, or send wrong ones, are delayed: no more than "
                f"{self._most_delayed} at a time, of {self._most_delayed_bytes >> 20} MiB."
            )
        self._delayed += 1
        self._delayed_bytes += size
        try:
            await asyncio.sleep(seconds)
        finally:
            self._delayed -= 1
            self._delayed_bytes -= size
            self._ended.set()

    async def _run_all(self, connection: str, parts: Generator[None, None, Result], large: bool) -> Result:
        ended = await self._run_part(connection, parts, large)
        if ended is None:
            self._begun += 1
            try:
                while ended is None:
                    await self._turn(connection, large, 0, begun=True)
                    ended = await self._run_part(connection, parts, large)
            finally:
                self._begun -= 1
        return ended.value

    async def _run_part(
        self, connection: str, parts: Generator[None, None, Result], large: bool
    ) -> "_Ended[Result] | None":
        loop, start = asyncio.get_running_loop(), time.monotonic()
        future = self._threads.submit(self._advance, parts)

        def end(_: "Future[_Ended[Result] | None]") -> None:
            # The loop may have ended: a stop does not wait for a request that hangs.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._end, connection, large, time.monotonic() - start)

        future.add_done_callback(end)
        return await asyncio.wrap_future(future)

    def _advance(self, parts: Generator[None, None, Result]) -> "_Ended[Result] | None":
        """Run one part, or all where too many requests wait for a further turn; None: there are more."""
        try:
            next(parts)
            while self._begun >= _MOST_BEGUN:
                next(parts)
        except StopIteration as stop:
            return _Ended(stop.value)
        return None

    async def drain(self, timeout_s: float) -> None:
        """Wait until every request has ended, or the time has passed."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._waiting or self._delayed or self._free < self._running:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            pass
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, connection: str, large: bool, size: int, *, begun: bool = False) -> None:
        """Wait for a thread; returns with `running` counted. A request that has begun is the next of its connection."""
        sender = self._sender(connection)
        if self._free and not self._waiting:
            self._start(sender, large)
            return
        if not begun:
            self._make_room(sender, size)
        ticket = _Ticket(asyncio.get_running_loop().create_future(), large, size)
        if begun:
            sender.waiting.appendleft(ticket)
        else:
            sender.waiting.append(ticket)
        self._count(ticket, 1)
        try:
            await ticket.granted
        except asyncio.CancelledError:
            if ticket.granted.cancelled():
                self._leave(sender, ticket)
            elif refusal := ticket.granted.exception():
                # It was refused in the same turn of the loop, and is not wasted.
                raise refusal from None
            else:
                # The thread was granted in the same turn.
                self._end(connection, large, 0.0)
            raise

    def _sender(self, connection: str) -> _Connection:
        """The connection's entry; a new one starts behind those that wait, so that reconnecting gains nothing."""
        sender = self._connections.get(connection)
        if sender is None:
            if len(self._connections) >= _MOST_REMEMBERED:
                self._connections = {name: entry for name, entry in self._connections.items() if not entry.idle}
            waiting = (entry.used_s for entry in self._connections.values() if entry.waiting)
            sender = self._connections[connection] = _Connection(max(waiting, default=0.0))
        if sender.idle:
            sender.used_s = max(sender.used_s, self._floor_s)
        return sender

    def _make_room(self, sender: _Connection, size: int) -> None:
        """End requests until a further one fits; raise, and end none, where the sender would have the most."""
        removed: list[tuple[_Connection, _Ticket]] = []
        try:
            if self._waiting >= self._most_waiting:
                removed.append(self._remove_newest(sender, lambda entry: len(entry.waiting), 1))
            while self._waiting_bytes + size > self._most_bytes:
                removed.append(self._remove_newest(sender, lambda entry: entry.waiting_bytes, size))
        except _QueueFullError:
            for entry, ticket in reversed(removed):
                entry.waiting.append(ticket)
                self._count(ticket, 1)
            raise
        for _, ticket in removed:
            # A request that was cancelled just now is still in its queue.
            if not ticket.granted.done():
                ticket.granted.set_exception(self._full())

    def _remove_newest(
        self, sender: _Connection, amount: Callable[[_Connection], int], added: int
    ) -> tuple[_Connection, _Ticket]:
        """Take the newest request of the connection with the largest amount; raise where that is the sender."""
        largest = max(self._connections.values(), key=amount)
        if amount(largest) <= amount(sender) + added:
            raise self._full()
        ticket = largest.waiting.pop()
        self._count(ticket, -1)
        return largest, ticket

    def _count(self, ticket: _Ticket, change: int) -> None:
        self._waiting += change
        self._waiting_bytes += change * ticket.size

    def _full(self) -> _QueueFullError:
        return _QueueFullError(
            f"The queue is full: no more than {self._most_waiting} requests wait, of {self._most_bytes >> 20} MiB."
        )

    def _leave(self, sender: _Connection, ticket: _Ticket) -> None:
        if ticket in sender.waiting:
            sender.waiting.remove(ticket)
            self._count(ticket, -1)
        self._ended.set()

    def _start(self, sender: _Connection, large: bool) -> None:
        self._free -= 1
        self._large += large
        sender.running += 1
        self._floor_s = max(self._floor_s, sender.used_s)

    def _end(self, connection: str, large: bool, took_s: float) -> None:
        sender = self._connections[connection]
        self._large -= large
        sender.running -= 1
        # A client that floods has many waiting or wasted requests, and uses up its share sooner than one that waits
        # for its responses.
        sender.used_s += took_s * math.sqrt(1 + len(sender.waiting) + sender.wasted)
        self._free += 1
        while self._free and self._waiting:
            following = self._following()
            ticket = following.waiting.popleft()
            self._count(ticket, -1)
            if not ticket.granted.done():
                self._start(following, ticket.large)
                ticket.granted.set_result(None)
        self._ended.set()

    def _following(self) -> _Connection:
        """The connection that has used the least; one with a small request first while large ones have their half."""
        full = self._large >= max(1, self._running // 2)
        waiting = [entry for entry in self._connections.values() if entry.waiting]
        return min(waiting, key=lambda entry: (full and entry.waiting[0].large, entry.used_s))
