"""How a client connects to a model server."""

import grpc

from ggn_tf.errors import ServingError

_HTTP = "http://"
_LARGEST_RESPONSE_BYTES = 2**28
"""Our exports respond with 3 MiB to the largest request of a client."""


def channel_options(proxy: str | None) -> tuple[tuple[str, int | str], ...]:
    """Options of a gRPC channel: requests of any size, and the environment's proxies have no effect.

    Args:
        proxy: HOST:PORT or URL of the HTTP proxy to connect through; None to connect to the server itself.

    Raises:
        ServingError: The proxy is not an HTTP proxy.
    """
    sizes = (("grpc.max_receive_message_length", _LARGEST_RESPONSE_BYTES), ("grpc.max_send_message_length", -1))
    if not proxy:
        return (*sizes, ("grpc.enable_http_proxy", 0))
    url = proxy if "://" in proxy else _HTTP + proxy
    if not url.lower().startswith(_HTTP):
        # gRPC would log it and connect without a proxy.
        raise ServingError(
            "The proxy cannot be used.",
            case=proxy,
            expected="an HTTP proxy, HOST:PORT or http://HOST:PORT",
            remedy="Name another proxy, or none.",
            arguments=("proxy",),
        )
    return (*sizes, ("grpc.http_proxy", url))


def open_channel(
    target: str, options: tuple[tuple[str, int | str], ...], credentials: grpc.ChannelCredentials | None
) -> grpc.Channel:
    """A channel to a server; without credentials it is not encrypted."""
    if credentials is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, credentials, options=options)
