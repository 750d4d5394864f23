"""Six clients of the embedded server, first alone, then beside two hostile ones, while versions are swapped.

python scripts/bench_hostile_load.py --seconds 180

The hostile clients are processes that run only where a core is free, because they would be other machines. Each
floods the server with requests, requests that cannot be served, and requests of 24 patches that it cancels; sends
requests byte by byte or only half; and keeps 500 connections open that say nothing.
"""

import argparse
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from bench_serving import export_two, served
from serving_load import ServerProcess, add_version
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ggn_tf.serving.contract.messages import make_request
from ggn_tf.serving.contract.tensors import repeat

GOOD, HOSTILE = 6, 2
SILENT = 500
OUTSTANDING = 64
PREDICT = "/tensorflow.serving.PredictionService/Predict"
OWN_CHANNEL = [("grpc.use_local_subchannel_pool", 1)]
# HTTP/2: the greeting, then a request whose message of 1 MB does not come (RFC 9113; RFC 7541, 6.2.2).
FIELDS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", PREDICT.encode()),
    (b":authority", b"here"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)
BLOCK = b"".join(b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in FIELDS)


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


HALF_REQUEST = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + http2_frame(4, 0, 0, b"")
    + http2_frame(1, 4, 1, BLOCK)
    + http2_frame(0, 0, 1, b"\0" + (10**6).to_bytes(4, "big"))
)


def flood_request(patches: int, dimensions: int = 0) -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ggn"
    shape = (1,) * dimensions or (patches, 32, 32, 32, 1)
    request.inputs["hu"].CopyFrom(repeat(-500.0, shape, "float32"))
    return request.SerializeToString()


def flood(target: str, message: bytes, leave: bool) -> None:
    """Always as many calls as a connection may have; `leave` cancels each at once."""
    with grpc.insecure_channel(target, OWN_CHANNEL) as channel:
        call, free = channel.unary_unary(PREDICT), threading.Semaphore(OUTSTANDING)
        while True:
            free.acquire()
            future = call.future(message, timeout=30)
            future.add_done_callback(lambda _: free.release())
            if leave:
                future.cancel()
                time.sleep(0.001)


def keep_open(target: str, count: int, first: bytes, later: bytes) -> None:
    """Connections that send something at the beginning and then every second; what is closed is opened again."""
    host, port = target.split(":")
    connections: list[socket.socket] = []
    while True:
        kept = []
        for connection in connections:
            try:
                connection.sendall(later)
                connection.setblocking(False)
                with suppress(BlockingIOError):
                    if connection.recv(1 << 16) == b"":
                        raise ConnectionResetError
                kept.append(connection)
            except OSError:
                connection.close()
        while len(kept) < count:
            with suppress(OSError):
                kept.append(socket.create_connection((host, int(port)), timeout=5))
                kept[-1].sendall(first)
        connections = kept
        time.sleep(1)


def reset(target: str, first: bytes) -> None:
    """Connections that begin a request and are reset at once."""
    host, port = target.split(":")
    while True:
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(first)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


BEHAVIOURS: dict[str, Callable[[str, int], None]] = {
    "flood": lambda target, patches: flood(target, flood_request(patches), leave=False),
    "wrong": lambda target, _: flood(target, flood_request(0, dimensions=100_000), leave=False),
    "cancel": lambda target, _: flood(target, flood_request(24), leave=True),
    "silent": lambda target, _: keep_open(target, SILENT, b"", b""),
    "half": lambda target, _: keep_open(target, 50, HALF_REQUEST, b""),
    "slow": lambda target, _: keep_open(target, 50, HALF_REQUEST, http2_frame(0, 0, 1, b"x")),
    "reset": lambda target, _: reset(target, HALF_REQUEST),
}


def attack(options: argparse.Namespace) -> None:
    """One hostile client, until its process is ended."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    for name in options.behaviour or BEHAVIOURS.keys() - {"reset"}:
        arguments = (options.attack, options.flood_patches)
        threading.Thread(target=BEHAVIOURS[name], args=arguments, daemon=True).start()
    threading.Event().wait()


@dataclass
class Phase:
    """Good clients' requests: their time in seconds, and what failed; the server's memory every ten seconds, MiB."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)

    @property
    def p99_ms(self) -> float:
        return 1e3 * float(np.percentile(self.seconds, 99))

    def __str__(self) -> str:
        failed = f"{len(self.failed)} failed" + "".join(f"\n    {text}" for text in sorted(set(self.failed))[:5])
        p50_ms, memory = 1e3 * statistics.median(self.seconds), " ".join(f"{mib:.0f}" for mib in self.memory_mib)
        return (
            f"{len(self.seconds)} responses, {failed}; p50 {p50_ms:.0f} ms, p99 {self.p99_ms:.0f} ms\n"
            f"    memory, MiB: {memory}"
        )


def good_clients(server: ServerProcess, seconds: float, pause_s: float) -> Phase:
    phase, ends = Phase(), time.monotonic() + seconds
    request = make_request(np.full((1, 32, 32, 32, 1), -600, np.float32), "ggn")

    def send() -> None:
        with grpc.insecure_channel(server.target, OWN_CHANNEL) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while time.monotonic() < ends:
                start = time.perf_counter()
                try:
                    stub.Predict(request, timeout=60)
                    phase.seconds.append(time.perf_counter() - start)
                except grpc.RpcError as error:
                    phase.failed.append(f"{error.code().name}: {error.details()}")
                time.sleep(pause_s)

    clients = [threading.Thread(target=send) for _ in range(GOOD)]
    for client in clients:
        client.start()
    while time.monotonic() < ends:
        phase.memory_mib.append(server.resident_mib)
        time.sleep(min(10.0, max(0.0, ends - time.monotonic())))
    for client in clients:
        client.join()
    return phase


def compare(folder: Path, options: argparse.Namespace) -> tuple[Phase, Phase, int]:
    """The quiet phase and the one under attack, and the number of swaps."""
    versions = [options.version] if options.version else export_two(folder, options.precision)
    model_folder, ended, number = served(folder / "hostile", versions[0]), threading.Event(), 1

    def swap() -> None:
        nonlocal number
        while not ended.wait(options.swap_seconds):
            number += 1
            add_version(versions[(number - 1) % len(versions)], model_folder, number)

    with ServerProcess(model_folder) as server:
        good_clients(server, 5, options.pause)
        swapper = threading.Thread(target=swap)
        swapper.start()
        quiet = good_clients(server, options.quiet_seconds, options.pause)
        behaviours = [f"--behaviour={name}" for name in options.behaviour or ()]
        command = [sys.executable, __file__, f"--attack={server.target}", f"--flood-patches={options.flood_patches}"]
        hostile = [subprocess.Popen([*command, *behaviours]) for _ in range(HOSTILE)]
        try:
            # They begin while the good ones are at work; importing TensorFlow takes them some seconds.
            attacked = good_clients(server, options.seconds, options.pause)
        finally:
            for process in hostile:
                process.kill()
                process.wait()
            ended.set()
            swapper.join()
        print("exit code of the server:", server.terminate())
    return quiet, attacked, number - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180, help="under attack")
    parser.add_argument("--quiet-seconds", type=float, default=60)
    parser.add_argument("--swap-seconds", type=float, default=10)
    parser.add_argument("--pause", type=float, default=0.2, help="between two requests of a good client, seconds")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--version", type=Path, help="version directory of an export to serve, instead of two new ones")
    parser.add_argument("--flood-patches", type=int, default=1, help="patches of a request of the floods; 64 at most")
    behaviour = "What the hostile clients do; can be repeated. Without it they do all of these but reset."
    parser.add_argument("--behaviour", action="append", choices=BEHAVIOURS, help=behaviour)
    parser.add_argument("--attack", metavar="HOST:PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        attack(options)
    with tempfile.TemporaryDirectory() as folder:
        quiet, attacked, swaps = compare(Path(folder), options)
    print(f"{GOOD} clients, {swaps} swaps\nquiet:        {quiet}\nunder attack: {attacked}")
    print(f"p99 under attack is {attacked.p99_ms / quiet.p99_ms:.2f} times the quiet one")


if __name__ == "__main__":
    main()
