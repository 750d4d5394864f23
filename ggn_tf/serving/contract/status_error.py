"""A failed request as the wire tells it: a gRPC status code and a message."""

import grpc

_LONGEST_MESSAGE = 1024


class StatusError(Exception):
    """A request that is answered by a status instead of a response; it never leaves the server.

    Args:
        code: gRPC status code.
        message: Cut where TensorFlow Serving cuts it.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        """Cut the message at 1024 bytes."""
        encoded = message.encode("utf-8")
        if len(encoded) > _LONGEST_MESSAGE:
            message = encoded[:_LONGEST_MESSAGE].decode("utf-8", errors="ignore") + "...TRUNCATED"
        super().__init__(code, message)
        self.code = code
        self.message = message

    @classmethod
    def from_number(cls, number: int, message: str) -> "StatusError":
        """From TensorFlow's error code: its numbers are gRPC's."""
        return cls(next(code for code in grpc.StatusCode if code.value[0] == number), message)


def invalid(message: str) -> StatusError:
    """The client's mistake."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)
