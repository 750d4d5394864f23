"""A gRPC server of the tests."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc


@contextmanager
def serving(servicer: prediction_service_pb2_grpc.PredictionServiceServicer) -> Iterator[str]:
    """Serve predictions until the block ends, and give the address."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
