"""A server in a process of its own, and clients that put load on it and check every response."""

import resource
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ggn_tf.serving.contract.messages import make_request
from ggn_tf.serving.contract.tensors import decode

_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class ServerProcess:
    """`ggn-tf serve` on a free port.

    Args:
        folder: The model folder.
        flags: Further flags of the command.
        open_files: The most files that the process may open; None for this process's own limit.
    """

    def __init__(self, folder: Path, *flags: str, open_files: int | None = None) -> None:
        command = [sys.executable, "-c", "from ggn_tf.cli import main; main()", "serve", str(folder), "--port=0"]
        self._process = subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
        )
        self.pid = self._process.pid
        if open_files is not None:
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (open_files, open_files))
        self.target = self._process.stdout.readline().rpartition(" ")[2].strip()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def resident_mib(self) -> float:
        return int(self._status("VmRSS").split()[0]) / 1024

    @property
    def threads(self) -> int:
        return int(self._status("Threads"))

    @property
    def files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def _status(self, name: str) -> str:
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(name + ":"))

    def terminate(self) -> int:
        """Stop it by a signal; returns the exit code."""
        self._process.terminate()
        return self._process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def add_version(source: Path, folder: Path, number: int) -> None:
    """Copy a version into a model folder as an export does: under another name, then renamed."""
    temporary = folder / f".{number}"
    shutil.copytree(source, temporary)
    temporary.rename(folder / str(number))


@dataclass
class LoadResult:
    """The responses that the clients received.

    Attributes:
        seconds: Time of every response, s, by the batch size of its request.
        versions: Number of responses by version.
        failed: Status code and message of every refusal.
        wrong: Number of responses that are not those of the version they name.
    """

    seconds: dict[int, list[float]] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    wrong: int = 0

    @property
    def count(self) -> int:
        return sum(map(len, self.seconds.values()))


def load(
    target: str,
    clients: int,
    seconds: float,
    patches: np.ndarray,
    batches: tuple[int, ...],
    expected: dict[int, np.ndarray] | None = None,
    atol: float = 1e-3,
    ended: threading.Event | None = None,
) -> LoadResult:
    """Send requests from several clients, each with a channel of its own, one request after the other.

    Args:
        target: HOST:PORT.
        clients: Number of clients.
        seconds: Longest duration, s.
        patches: [N, S, S, S, 1], N at least the largest batch; a request contains the first of them.
        batches: Batch sizes, drawn by each client in its own order.
        expected: Probabilities [N, C] of the patches, by version.
        atol: Largest difference from them.
        ended: Ends the load when set.
    """
    requests = {batch: make_request(patches[:batch], "ggn") for batch in set(batches)}
    result, lock, ends = LoadResult(), threading.Lock(), time.monotonic() + seconds
    ended = ended or threading.Event()

    def send(seed: int) -> None:
        generator = np.random.default_rng(seed)
        with grpc.insecure_channel(target, [*_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while time.monotonic() < ends and not ended.is_set():
                batch = int(generator.choice(batches))
                start = time.perf_counter()
                try:
                    response = stub.Predict(requests[batch], timeout=60)
                except grpc.RpcError as error:
                    with lock:
                        result.failed.append(f"{error.code().name}: {error.details()}")
                    continue
                took = time.perf_counter() - start
                version = response.model_spec.version.value
                good = expected is None or _agrees(response, expected.get(version), atol)
                with lock:
                    result.seconds.setdefault(batch, []).append(took)
                    result.versions[version] = result.versions.get(version, 0) + 1
                    result.wrong += not good

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


def _agrees(response: predict_pb2.PredictResponse, expected: np.ndarray | None, atol: float) -> bool:
    probabilities = decode(response.outputs["probabilities"])
    return expected is not None and np.allclose(probabilities, expected[: len(probabilities)], atol=atol)
