"""Frames of HTTP/2 (RFC 9113), for clients that gRPC's own is too polite to be."""

import struct

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_FIELDS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": PREDICT,
    ":authority": "here",
    "te": "trailers",
    "content-type": "application/grpc",
}


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame; its length is written as 24 bits."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")


def header(stream: int) -> bytes:
    """The header of a request to predict, whose fields are literals (RFC 7541, 6.2.2)."""
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in _FIELDS.items()
    )
    return frame(1, 4, stream, block)
