"""The embedded server: one model over gRPC, in TensorFlow Serving's protocol, for one machine and for tests."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import tensorflow as tf
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from ggn_tf.errors import GgnError, ServingError
from ggn_tf.serving.contract.names import MODEL_NAME, PORT
from ggn_tf.serving.contract.version_folders import newest_version
from ggn_tf.serving.runtime.batching import BatchingParameters
from ggn_tf.serving.server.request_limits import RequestLimits
from ggn_tf.serving.server.services import ModelService, PredictionService
from ggn_tf.serving.server.shutdown_gate import ShutdownGate
from ggn_tf.serving.server.version_manager import State, VersionManager

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

HEALTH_SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_MOST_THREADS = 256

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
        batching: How to join requests of several clients; None to run each by itself.
        running: Requests at work at a time. None for one for every two cores, or for as many cores as TensorFlow was
            told that an operation can use, and at least two, so that one computes while another is read or written;
            with batching as many as fill two batches with single patches, at most 256.
        waiting: Requests that may wait; further ones are answered UNAVAILABLE.
        channel_arguments: Of gRPC's core, for example `grpc.max_receive_message_length`.
    """

    model_name: str = MODEL_NAME
    host: str = "127.0.0.1"
    port: int = PORT
    poll_wait_seconds: float = 1.0
    batching: BatchingParameters | None = None
    running: int | None = None
    waiting: int = 64
    channel_arguments: tuple[tuple[str, int | str], ...] = ()

    @property
    def threads(self) -> int:
        """Requests at work at a time; with batching most of them wait for company."""
        cores_each = tf.config.threading.get_intra_op_parallelism_threads() or 2
        alone = max(2, (os.cpu_count() or 1) // cores_each)
        joined = 0 if self.batching is None else 2 * self.batching.max_batch_size
        return self.running or min(max(alone, joined), _MOST_THREADS)


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
        self.versions = VersionManager(self.options.model_name, folder, self._tell_health, self.options.batching)
        self._health = health.aio.HealthServicer()
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="version-poller", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._network = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self._server: aio.Server | None = None
        self._admission, self._door = RequestLimits(self.options.threads, self.options.waiting), ShutdownGate()

    def start(self) -> int:
        """Load the newest version, then take the port.

        Returns:
            The version that serves.

        Raises:
            ExportError: The folder holds no export.
            ServingError: The newest version does not load, or the port is taken.
        """
        self._network.start()
        try:
            self._load_first()
            self._server = self._await(self._listen())
        except GgnError:
            self.stop()
            raise
        if self.options.poll_wait_seconds > 0:
            self._poller.start()
        with self.versions.lease(None) as servable:
            return servable.version

    def stop(self, grace_s: float = 30.0) -> None:
        """Refuse new requests, answer those at work, then unload.

        Args:
            grace_s: Requests that take longer are cancelled.
        """
        ends = time.monotonic() + grace_s
        self._await(self._health.enter_graceful_shutdown())
        self._stopping.set()
        self._door.close()
        self._admission.drain(grace_s)
        if self._server is not None:
            self._await(self._door.stop(self._server, ends - time.monotonic()))
        if self._poller.is_alive():
            self._poller.join()
        self.versions.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._network.join()
        self._loop.close()

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
        states = self.versions.states()
        if not any(state.state is State.AVAILABLE for state in states.values()):
            # Of an error's block the log has told all.
            errors = [f"version {number}: {of.error.splitlines()[0]}" for number, of in states.items() if of.error]
            raise ServingError(
                "The newest version does not load.",
                case=self.versions.folder,
                found=errors[0] if errors else "it cannot be read",
                expected="a version that loads and warms up",
                remedy="Do what the log says of it, or export the run anew; the new version gets a higher number.",
            )

    async def _listen(self) -> aio.Server:
        options = {**dict(_GRPC_OPTIONS), **dict(self.options.channel_arguments)}
        server = aio.server(interceptors=[self._door], options=tuple(options.items()))
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
                found=str(error).splitlines()[0].partition(";")[0],
                expected="a free port of this machine",
                remedy="Name another --port (0 picks a free one), or stop the program that has it.",
            ) from error
        await server.start()
        return server

    def _await(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _poll(self) -> None:
        while not self._stopping.wait(self.options.poll_wait_seconds):
            self.versions.poll()

    def _tell_health(self, available: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if available else health_pb2.HealthCheckResponse.NOT_SERVING
        if not self._stopping.is_set():
            for service in HEALTH_SERVICES:
                self._await(self._health.set(service, status))
