"""Proxies and IPv6, against a live server."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ggn_tf.errors import ServingError
from ggn_tf.serving.client.client import AsyncPredictionClient, PredictionClient
from ggn_tf.serving.client.server_check import check_server
from ggn_tf.serving.server.server import ModelServer, ServerOptions

VARIABLES = ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")


class Proxy:
    """Counts connections, and connects nobody."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                self.requests.append(connection.recv(100))


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """A proxy that the whole environment names."""
    found = Proxy()
    for variable in VARIABLES:
        monkeypatch.setenv(variable, f"http://{found.address}")
    for variable in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return found


def test_no_client_uses_the_environment_s_proxies(server: ModelServer, exported: Path, patches: np.ndarray, proxy):
    target = f"127.0.0.1:{server.port}"
    with PredictionClient(target, timeout_s=10) as client:
        client.predict(patches)

    async def predict() -> None:
        async with AsyncPredictionClient(target, timeout_s=10) as client:
            await client.predict(patches)

    asyncio.run(predict())
    check_server(target, exported, repeats=1, timeout_s=10)
    assert proxy.requests == []


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_proxy_that_was_asked_for_is_used(server: ModelServer, proxy: Proxy, scheme: str):
    target = f"127.0.0.1:{server.port}"
    with PredictionClient(target, timeout_s=3, proxy=scheme + proxy.address) as client, pytest.raises(ServingError):
        client.patch_shape()
    assert proxy.requests and proxy.requests[0].startswith(f"CONNECT {target} ".encode())


def test_a_proxy_of_another_kind_is_refused():
    with pytest.raises(ServingError, match="HTTP proxy") as caught:
        PredictionClient("localhost:1", proxy="socks5://localhost:1080")
    assert caught.value.arguments == ("proxy",)


@pytest.fixture(scope="module")
def has_ipv6() -> Iterator[None]:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    yield


@pytest.mark.parametrize("host", ["::", "[::1]"])
def test_a_server_on_ipv6_is_reached_by_its_address(exported: Path, patches: np.ndarray, has_ipv6, host: str):
    with ModelServer(exported, ServerOptions(host=host, port=0)) as server:
        assert server.address == f"[{host.strip('[]')}]:{server.port}"
        with PredictionClient(server.address, timeout_s=10) as client:
            assert client.predict(patches).model_version == 1
        check_server(f"[::1]:{server.port}", exported, repeats=1, timeout_s=10)
