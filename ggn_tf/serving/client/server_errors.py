"""The errors of a model server, as its clients report them."""

from dataclasses import dataclass

import grpc

from ggn_tf.errors import ServingError

_EXPECTED = {
    grpc.StatusCode.NOT_FOUND: "a model and version that the server has",
    grpc.StatusCode.UNIMPLEMENTED: "TensorFlow Serving's protocol",
    grpc.StatusCode.INVALID_ARGUMENT: "a request that fits the model",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "a message within the server's limit",
}
_REMEDIES = {
    grpc.StatusCode.UNAVAILABLE: "Start a server with ggn-tf serve, or check host and port.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Allow more time, or reduce the server's load.",
    grpc.StatusCode.NOT_FOUND: "Give the model name and the version that the server uses.",
    grpc.StatusCode.UNIMPLEMENTED: "Give the gRPC port of a model server (8500 by default), not its REST port.",
}


@dataclass(frozen=True)
class ServedName:
    """A model on a server.

    Attributes:
        target: HOST:PORT.
        model_name: Name of the model on the server.
        version: The only version to use; None for the newest.
    """

    target: str
    model_name: str
    version: int | None

    def __str__(self) -> str:
        version = "" if self.version is None else f" version {self.version}"
        return f"model {self.model_name}{version} on {self.target}"


def server_error(model: ServedName, error: grpc.RpcError, timeout_s: float, details: str = "") -> ServingError:
    """The error of a failed request.

    Args:
        model: Model that was used.
        error: gRPC's error.
        timeout_s: Time that was allowed, seconds.
        details: Text after the server's message.
    """
    code = error.code()
    if code == grpc.StatusCode.UNAVAILABLE:
        return unreachable(model, f"{code.name}: {error.details()}", timeout_s)
    return ServingError(
        "The model server refused the request.",
        case=model,
        found=f"{code.name}: {error.details()}{details}",
        expected=_EXPECTED.get(code, f"a response within {timeout_s:g} s"),
        remedy=_REMEDIES.get(code, "Check that client and server have the same version of ggn-tf."),
        arguments=("model_name", "version") if code == grpc.StatusCode.NOT_FOUND else (),
    )


def unreachable(model: ServedName, found: str, timeout_s: float) -> ServingError:
    """The error of a server that cannot be reached."""
    return ServingError(
        "The model server cannot be reached.",
        case=model,
        found=found,
        expected=f"a server of TensorFlow Serving's gRPC protocol that responds within {timeout_s:g} s",
        remedy=_REMEDIES[grpc.StatusCode.UNAVAILABLE],
    )
