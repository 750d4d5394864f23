"""Connections that send nothing, too little or too much must not exclude other clients."""

import asyncio
import resource
import socket
import time
from contextlib import ExitStack
from types import SimpleNamespace

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ggn_tf.serving.server.connections import CHANNEL_OPTIONS, ConnectionGuard, largest_message_bytes, most_connections
from ggn_tf.serving.server.interceptor import RequestInterceptor
from scripts.serving_load import ServerProcess
from tests.support.http2 import GREETING, header

DEADLINE_S = 60


@pytest.fixture(scope="module")
def process(exported):
    """A server that may open so few files that clients can use them all."""
    with ServerProcess(exported, open_files=256) as server:
        yield server


def is_healthy(target):
    with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True).status == 1


@pytest.mark.parametrize("sent", [b"", GREETING, GREETING[:5]], ids=["nothing", "no request", "half a greeting"])
def test_more_silent_connections_than_open_files_exclude_no_client(sent, process):
    host, port = process.target.split(":")
    with ExitStack() as stack:
        for _ in range(400):
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=DEADLINE_S))
            connection.sendall(sent)
        assert is_healthy(process.target)
        assert process.files < 256


def test_the_longest_silent_connections_are_closed():
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        pairs = []
        for _ in range(12):
            client = stack.enter_context(socket.create_connection(listening.getsockname()))
            pairs.append((client, stack.enter_context(listening.accept()[0])))
        time.sleep(0.3)
        for client, _ in pairs[:3]:
            client.sendall(b"x")
        guard = ConnectionGuard(10)
        guard.start(listening.getsockname()[1])
        gone = [client for client, _ in pairs[3:] if _is_closed(client)]
        guard.stop()
        assert len(gone) >= 7
        for client, server in pairs[:3]:
            assert server.recv(1) == b"x"
            server.sendall(b"y")
            assert client.recv(1) == b"y"


@pytest.mark.parametrize(
    ("host", "family", "name"),
    [("127.0.0.1", socket.AF_INET, "ipv4:127.0.0.1:{}"), ("::1", socket.AF_INET6, "ipv6:%5B::1%5D:{}")],
)
def test_a_connection_is_closed_by_its_name_and_no_other(host, family, name):
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server((host, 0), family=family))
        clients = [stack.enter_context(socket.create_connection((host, server.getsockname()[1]))) for _ in range(2)]
        accepted = [stack.enter_context(server.accept()[0]) for _ in clients]
        guard = ConnectionGuard(10_000)
        guard.start(server.getsockname()[1])
        guard.close(name.format(clients[0].getsockname()[1]))
        guard.stop()
        assert [_is_closed(client) for client in clients] == [True, False]
        assert len(accepted) == 2


def _is_closed(client):
    client.settimeout(1)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False


def test_a_server_may_open_as_many_files_as_the_system_allows(monkeypatch):
    changed = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changed.append(limits))
    assert most_connections() == 2000
    assert changed == [(4096, 4096)]


def test_a_connection_has_few_streams(process):
    assert dict(CHANNEL_OPTIONS)["grpc.max_concurrent_streams"] == 64


def test_a_request_that_waits_behind_4096_others_in_grpc_is_served():
    """64 connections begin them while the loop is busy: by default gRPC refuses what comes after some 1000."""

    async def respond(request, context):
        return b"response"

    async def exchange():
        server = aio.server(options=CHANNEL_OPTIONS)
        method = grpc.unary_unary_rpc_method_handler(respond)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("any", {"Thing": method}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with ExitStack() as stack:
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
            grpc.channel_ready_future(channel).result(DEADLINE_S)
            for _ in range(64):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                connection.sendall(GREETING + b"".join(header(2 * i + 1) for i in range(64)))
            time.sleep(1)  # this thread's loop takes nothing
            response = channel.unary_unary("/any/Thing").future(b"", timeout=DEADLINE_S)
            time.sleep(0.2)
            while not response.done():
                await asyncio.sleep(0.01)
            await server.stop(None)
            return response.result()

    assert asyncio.run(exchange()) == b"response"


@pytest.mark.parametrize(("given", "most"), [(None, 8 * 2**20), (1000, 1000), (-1, 2**31 - 1), (2**40, 2**31 - 1)])
def test_the_largest_message_is_an_option_of_grpc(given, most):
    options = [] if given is None else [("grpc.max_receive_message_length", given)]
    assert largest_message_bytes(options) == most


class Silent:
    """A request whose message never arrives."""

    async def read(self):
        await asyncio.Event().wait()

    async def abort(self, code, details):
        raise ConnectionAbortedError(details)


def test_requests_that_begin_together_are_no_more_than_may_arrive():
    async def known(details):
        return grpc.unary_unary_rpc_method_handler(known)

    async def flood():
        details = SimpleNamespace(method="/tensorflow.serving.PredictionService/Predict")
        handler = await RequestInterceptor(None).intercept_service(known, details)
        requests = [asyncio.ensure_future(handler.stream_unary(None, Silent())) for _ in range(200)]
        await asyncio.wait(requests, timeout=0.2)
        arriving = [request for request in requests if not request.done()]
        assert arriving == requests[-64:]
        for request in arriving:
            request.cancel()
        await asyncio.wait(requests)
        # Of what failed, the reason is read: it did not arrive in time.
        assert all(isinstance(request.exception(), ConnectionAbortedError) for request in requests[:-64])

    asyncio.run(flood())


@pytest.mark.parametrize(
    ("sent", "kept", "closed"),
    [
        # The connection with the most ends, not the oldest response.
        ([("a", 100), ("b", 80), ("b", 70), ("a", 20)], [True, False, False, True], ["b"]),
        # Where it has the most itself, the response that comes.
        ([("a", 30), ("b", 100), ("b", 80), ("b", 60)], [True, True, True, False], []),
        # Others have as much room as the largest one.
        ([("a", 300), ("b", 200), ("c", 90), ("c", 20)], [False, True, True, True], ["a"]),
    ],
)
def test_responses_that_are_not_taken_are_bounded(sent, kept, closed):
    """Each is sent for ever, of so many MiB."""

    async def known(details):
        return grpc.unary_unary_rpc_method_handler(respond)

    async def respond(message, context):
        return bytes(len(message) << 20)

    async def send(handler, connection, size):
        async def read():
            return bytes(size)

        await handler.stream_unary(None, SimpleNamespace(read=read, peer=lambda: connection, abort=Silent().abort))
        await asyncio.Event().wait()

    async def flood():
        details = SimpleNamespace(method="/tensorflow.serving.PredictionService/Predict")
        connections = []
        handler = await RequestInterceptor(connections.append).intercept_service(known, details)
        tasks = []
        for connection, size in sent:
            tasks.append(asyncio.ensure_future(send(handler, connection, size)))
            await asyncio.wait(tasks, timeout=0.2)
        assert ([not task.done() for task in tasks], connections) == (kept, closed)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(flood())


def test_watching_the_health_is_bounded(process):
    with grpc.insecure_channel(process.target) as channel, ExitStack() as stack:
        stubs = [health_pb2_grpc.HealthStub(channel)]
        for _ in range(2):
            other = stack.enter_context(grpc.insecure_channel(process.target, [("grpc.use_local_subchannel_pool", 1)]))
            stubs.append(health_pb2_grpc.HealthStub(other))
        calls = [stub.Watch(health_pb2.HealthCheckRequest()) for stub in stubs for _ in range(50)]
        codes = []
        for call in calls:
            try:
                next(call)
                codes.append(None)
            except grpc.RpcError as error:
                codes.append(error.code())
        for call in calls:
            call.cancel()
    assert codes.count(None) == 100
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 50
