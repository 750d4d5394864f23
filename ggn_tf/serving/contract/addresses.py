"""Addresses of model servers: HOST:PORT, with an IPv6 address in brackets."""

import ipaddress
import re

from ggn_tf.serving.contract.wire import PORT

# gRPC's own names for addresses, for example unix:/run/ggn.sock or dns:///host:8500.
_URI = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):", re.IGNORECASE)


def join_address(host: str, port: int) -> str:
    """The address of a host's port; a host may be an IPv6 address with or without brackets."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def full_address(text: str) -> str:
    """An address as gRPC needs it: the usual port is added where there is none, and brackets around an IPv6 address."""
    address = text.strip().rstrip("/")
    if _URI.match(address):
        return address
    if is_ipv6(address) or not re.search(r":\d+$", address):
        return join_address(address.removesuffix(":"), PORT)
    return address


def is_ipv6(host: str) -> bool:
    """Whether a host is an IPv6 address, which may have a zone."""
    try:
        return isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address)
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only programs of the same machine can reach a host or gRPC address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("unix")
