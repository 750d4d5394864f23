"""A failed request as the protocol reports it: a gRPC status code and a message."""

import grpc

# gRPC sends the message in a header, whose size is limited.
_LONGEST_MESSAGE_BYTES = 1024


class StatusError(Exception):
    """A request that ends with a status instead of a response; it never leaves the server.

    Args:
        code: gRPC status code.
        message: Text for the client, cut at 1024 bytes.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        message = message.encode("utf-8")[:_LONGEST_MESSAGE_BYTES].decode("utf-8", errors="ignore")
        super().__init__(code, message)
        self.code = code
        self.message = message

    @classmethod
    def from_number(cls, number: int, message: str) -> "StatusError":
        """From TensorFlow's error code, whose numbers are gRPC's."""
        return cls(next(code for code in grpc.StatusCode if code.value[0] == number), message)


def invalid(message: str) -> StatusError:
    """INVALID_ARGUMENT: the request is wrong, whatever the state of the server."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_served(model_name: str, version: int | None) -> StatusError:
    """NOT_FOUND: the server has no such model, or no such version of it (None: none at all)."""
    version_text = "" if version is None else f", version {version},"
    return StatusError(grpc.StatusCode.NOT_FOUND, f"Model {model_name}{version_text} is not served here.")
