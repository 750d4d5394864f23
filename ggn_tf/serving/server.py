"""The embedded server: one model over gRPC, in TensorFlow Serving's protocol, for one machine and for tests."""

import logging
import os
import threading
import time
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from ggn_tf.errors import ServingError
from ggn_tf.serving.admission import Admission, Door
from ggn_tf.serving.contract import MODEL_NAME, PORT
from ggn_tf.serving.services import ModelService, PredictionService
from ggn_tf.serving.version_folders import newest_version
from ggn_tf.serving.versions import Versions

log = logging.getLogger(__name__)

HEALTH_SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_SPARE_THREADS = 4
"""For refusals, status and health while all places are taken."""

_GRPC_OPTIONS = (
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", 2**31 - 1),
    # Otherwise a second server takes the same port without a word, and the kernel deals requests out to both.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True)
class ServerOptions:
    """How to serve; the defaults are TensorFlow Serving's where it has any.

    Attributes:
        model_name: What clients call the model.
        host: Loopback unless told otherwise: there is no encryption and no authentication.
        port: 0 for a free one.
        poll_wait_seconds: Between two looks at the model folder; 0 to look once.
        running: Requests at work at a time; None for half the cores.
        waiting: Requests that may wait; further ones are answered UNAVAILABLE.
    """

    model_name: str = MODEL_NAME
    host: str = "127.0.0.1"
    port: int = PORT
    poll_wait_seconds: float = 1.0
    running: int | None = None
    waiting: int = 64


class ModelServer:
    """Serves a model folder until it is stopped.

    Args:
        folder: The model folder, for example MODELS/ggn.
        options: How.
    """

    def __init__(self, folder: Path, options: ServerOptions | None = None) -> None:
        """Nothing is loaded and no port is taken before `start`."""
        self.options = options or ServerOptions()
        self.port = 0
        self.versions = Versions(self.options.model_name, folder, self._tell_health)
        self._health = health.HealthServicer()
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="version-poller", daemon=True)
        self._server: grpc.Server | None = None
        running = self.options.running or max(1, (os.cpu_count() or 1) // 2)
        self._threads = running + self.options.waiting + _SPARE_THREADS
        self._admission, self._door = Admission(running, self.options.waiting), Door()

    def start(self) -> int:
        """Load the newest version, then take the port.

        Returns:
            The version that serves.

        Raises:
            ExportError: The folder holds no export.
            ServingError: The newest version does not load, or the port is taken.
        """
        self._load_first()
        try:
            self._server = self._listen()
        except ServingError:
            self.versions.close()
            raise
        self._server.start()
        if self.options.poll_wait_seconds > 0:
            self._poller.start()
        with self.versions.lease(None) as servable:
            return servable.version

    def stop(self, grace_s: float = 30.0) -> None:
        """Refuse new requests, answer those at work, then unload.

        Args:
            grace_s: Requests that take longer are cancelled.
        """
        self._stopping.set()
        self._health.enter_graceful_shutdown()
        self._door.close()
        if self._server is not None:
            ends = time.monotonic() + grace_s
            self._admission.drain(grace_s)
            self._server.stop(max(0.0, ends - time.monotonic())).wait()
        if self._poller.is_alive():
            self._poller.join()
        self.versions.close()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _load_first(self) -> None:
        newest_version(self.versions.folder)
        self.versions.poll()
        failed = [state.error for state in self.versions.states().values() if state.error]
        if failed:
            raise ServingError(
                "The newest version does not load.",
                case=self.versions.folder,
                found=failed[0],
                expected="a version that loads and warms up",
                remedy="Export the run anew; the new version gets a higher number.",
            )

    def _listen(self) -> grpc.Server:
        pool = futures.ThreadPoolExecutor(self._threads, "grpc")
        server = grpc.server(pool, interceptors=[self._door], options=_GRPC_OPTIONS)
        prediction = PredictionService(self.versions, self._admission)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self.versions), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        address = f"{self.options.host}:{self.options.port}"
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ServingError(
                "The server cannot listen.",
                case=address,
                found=str(error).splitlines()[0],
                expected="a free port of this machine",
                remedy="Name another --port (0 picks a free one), or stop the program that has it.",
            ) from error
        return server

    def _poll(self) -> None:
        while not self._stopping.wait(self.options.poll_wait_seconds):
            self.versions.poll()

    def _tell_health(self, available: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if available else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in HEALTH_SERVICES:
            self._health.set(service, status)
