"""The embedded server: one model over gRPC in TensorFlow Serving's protocol, for one machine and for tests."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ggn_tf.errors import GgnError, ServingError
from ggn_tf.serving.contract.tls import ServerTls, is_loopback, join_address
from ggn_tf.serving.contract.trust import Trust
from ggn_tf.serving.contract.version_folders import newest_version
from ggn_tf.serving.contract.wire import MODEL_NAME, PORT
from ggn_tf.serving.runtime.batching import BatchingParameters
from ggn_tf.serving.runtime.predict_request import RequestBounds
from ggn_tf.serving.server.connections import (
    CHANNEL_OPTIONS,
    ConnectionGuard,
    largest_message_bytes,
    most_connections,
)
from ggn_tf.serving.server.interceptor import RequestInterceptor
from ggn_tf.serving.server.request_limits import RequestLimits
from ggn_tf.serving.server.services import MODEL_SERVICE, PREDICTION_SERVICE, ModelService, PredictionService
from ggn_tf.serving.server.version_manager import State, VersionManager

log = logging.getLogger(__name__)
Result = TypeVar("Result")

HEALTH_SERVICES = ("", PREDICTION_SERVICE, MODEL_SERVICE)
_MOST_THREADS = 256
_BYTES_PER_ROW = 4 * 32**3
"""A patch in a message; also of regions, which cost as much to predict, no more are allowed than fit as patches."""
_LAST_STEP_S = 5.0
"""Longest wait for clients that do not take a response, and for a version that hangs, once all requests have run."""


@dataclass(frozen=True)
class ServerOptions:
    """Options of the server; the defaults are TensorFlow Serving's where it has any.

    Attributes:
        model_name: Name of the model for clients.
        host: Address to listen on; loopback by default, because without `tls` nothing is encrypted or authenticated.
        port: Port for gRPC; 0 picks a free one.
        poll_wait_seconds: Time between two checks of the model folder, seconds; 0 checks once.
        batching: How to join requests of several clients; None to run each by itself.
        running: Requests that run in parallel. None: one per two cores, or per `cores_each`, and at least two, so that
            one computes while another is read or written; with batching as many single patches as fill two batches,
            at most 256.
        waiting: Requests that may wait, together half as large as so many of the largest; further ones are
            UNAVAILABLE. As many more, half as large together, may be delayed because of their connection's earlier
            ones. Those that arrive, and that run, come on top.
        channel_arguments: Options of gRPC's core, which replace ours: for example `grpc.max_receive_message_length`,
            the largest request, which also bounds a declared tensor and, at 128 KiB each, the rows of a request.
        trust: Which versions are loaded.
        tls: Certificate and key; None for connections that are not encrypted.
        cores_each: Cores that the process lets TensorFlow use for one operation; 0 for all.
    """

    model_name: str = MODEL_NAME
    host: str = "127.0.0.1"
    port: int = PORT
    poll_wait_seconds: float = 1.0
    batching: BatchingParameters | None = None
    running: int | None = None
    waiting: int = 64
    channel_arguments: tuple[tuple[str, int | str], ...] = ()
    trust: Trust = field(default_factory=Trust)
    tls: ServerTls | None = None
    cores_each: int = 0

    @property
    def bounds(self) -> RequestBounds:
        """What one request may declare."""
        largest = largest_message_bytes(self.channel_arguments)
        return RequestBounds(largest, max(1, largest // _BYTES_PER_ROW))

    @property
    def threads(self) -> int:
        """Requests that run in parallel; with batching most of them wait for others."""
        alone = max(2, (os.cpu_count() or 1) // (self.cores_each or 2))
        joined = 0 if self.batching is None else 2 * self.batching.max_batch_size
        return self.running or min(max(alone, joined), _MOST_THREADS)


class ModelServer:
    """Serves a model folder, for example MODELS/ggn, until it is stopped."""

    def __init__(self, folder: Path, options: ServerOptions | None = None) -> None:
        self.options = options or ServerOptions()
        self.port = 0
        self.versions = VersionManager(
            self.options.model_name, folder, self._report_health, self.options.batching, self.options.trust
        )
        self._health = health.aio.HealthServicer()
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="version-poller", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._network = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self._server: aio.Server | None = None
        largest = self.options.bounds.largest_bytes
        waiting = self.options.waiting
        self._limits = RequestLimits(self.options.threads, waiting, max(largest, waiting * largest // 2))
        self._guard = ConnectionGuard(most_connections())
        self._interceptor = RequestInterceptor(self._guard.close)

    def start(self) -> int:
        """Load the newest version, then take the port; returns the number of the version that is served.

        Raises:
            ExportError: The folder contains no export.
            ServingError: The newest version cannot be loaded, or the port is taken.
        """
        self._network.start()
        try:
            credentials = None if self.options.tls is None else self.options.tls.credentials()
            self._load_first()
            self._server = self._await(self._listen(credentials))
        except GgnError:
            self.stop()
            raise
        self._guard.start(self.port)
        if self.options.tls is None and not is_loopback(self.options.host):
            log.warning("%s can be reached from other machines, and connections are not encrypted", self.address)
        if self.options.poll_wait_seconds > 0:
            self._poller.start()
        with self.versions.lease(None) as servable:
            return servable.version

    @property
    def address(self) -> str:
        """HOST:PORT that it listens on, with an IPv6 address in brackets."""
        return join_address(self.options.host, self.port)

    def stop(self, grace_s: float = 30.0) -> None:
        """Refuse new requests, complete those that run and wait, within `grace_s` seconds, then unload.

        A version that hangs while it is loaded or predicts is left to the end of the process.
        """
        ends = time.monotonic() + grace_s
        self._await(self._health.enter_graceful_shutdown())
        self._stopping.set()
        self._await(self._interceptor.close())
        self._await(self._limits.drain(grace_s))
        if self._server is not None:
            self._await(self._interceptor.stop(self._server, min(ends - time.monotonic(), _LAST_STEP_S)))
        self._guard.stop()
        if self._poller.is_alive():
            self._poller.join(_LAST_STEP_S)
        self.versions.close(_LAST_STEP_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._network.join()
        self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _load_first(self) -> None:
        newest_version(self.versions.folder)
        self.versions.poll()
        states = self.versions.states()
        if not any(state.state is State.AVAILABLE for state in states.values()):
            # The log has the error's complete block.
            errors = [f"version {n}: {state.error.splitlines()[0]}" for n, state in states.items() if state.error]
            raise ServingError(
                "The newest version cannot be loaded.",
                case=self.versions.folder,
                found=errors[0] if errors else "it cannot be read",
                expected="a version that loads and warms up",
                remedy="Follow the remedy in the log, or export the run again as a new version.",
            )

    async def _listen(self, credentials: grpc.ServerCredentials | None) -> aio.Server:
        options = {**dict(CHANNEL_OPTIONS), **dict(self.options.channel_arguments)}
        server = aio.server(interceptors=[self._interceptor], options=tuple(options.items()))
        prediction = PredictionService(self.versions, self._limits, self.options.bounds)
        server.add_generic_rpc_handlers((prediction.handler, ModelService(self.versions).handler))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        address = join_address(self.options.host, self.options.port)
        try:
            secure = credentials is not None
            self.port = server.add_secure_port(address, credentials) if secure else server.add_insecure_port(address)
        except RuntimeError as error:
            raise ServingError(
                "The server cannot listen.",
                case=address,
                found=str(error).splitlines()[0].partition(";")[0],
                expected="a free port of this machine",
                remedy="Choose another port (0 picks a free one), or stop the program that uses it.",
                arguments=("port",),
            ) from error
        await server.start()
        return server

    def _await(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _poll(self) -> None:
        while not self._stopping.wait(self.options.poll_wait_seconds):
            self.versions.poll()

    def _report_health(self, available: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if available else health_pb2.HealthCheckResponse.NOT_SERVING
        if not self._stopping.is_set():
            for service in HEALTH_SERVICES:
                self._await(self._health.set(service, status))
