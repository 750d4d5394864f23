"""Whether a live server answers as the export did that it claims to serve: golden requests, replayed and compared."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ggn_tf.errors import ServingError
from ggn_tf.serving.client.answer_comparison import compare_answers
from ggn_tf.serving.contract.names import MODEL_NAME, TOLERANCES, read_contract
from ggn_tf.serving.contract.version_folders import find_version
from ggn_tf.serving.runtime.golden_requests import read_golden

_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


@dataclass(frozen=True)
class Expectation:
    """What is asked of which server.

    Attributes:
        target: HOST:PORT.
        model_name: What the server calls the model.
        version: The only version to ask; None for the newest.
        tolerances: By output, how far a number may lie from the export's own.
        repeats: Of one request of each signature, for the median latency.
        timeout_s: For the connection, and for each request.
    """

    target: str
    model_name: str
    version: int | None
    tolerances: Mapping[str, float]
    repeats: int = 20
    timeout_s: float = 60.0

    @property
    def case(self) -> str:
        """Who is asked, for a person."""
        version = "" if self.version is None else f" version {self.version}"
        return f"model {self.model_name}{version} on {self.target}"


@dataclass(frozen=True)
class SignatureCheck:
    """How a server answered the golden requests of one signature.

    Attributes:
        signature: Its name.
        requests: How many there were.
        differences: By output, how far a number lay from the export's own where it did most.
        drift: What was not as recorded, for a person; empty where all was.
        first_ms: Until the first answer, on a connection that stood.
        median_ms: Of one row, repeated.
    """

    signature: str
    requests: int
    differences: dict[str, float]
    drift: tuple[str, ...]
    first_ms: float
    median_ms: float


@dataclass(frozen=True)
class ServerCheck:
    """How a server answered.

    Attributes:
        expectation: What was asked of whom.
        export: The version directory that it was compared with.
        version: The one that answered.
        signatures: One each.
    """

    expectation: Expectation
    export: Path
    version: int
    signatures: tuple[SignatureCheck, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "server": self.expectation.target,
            "model_name": self.expectation.model_name,
            "version": self.version,
            "export": str(self.export),
            "tolerances": dict(self.expectation.tolerances),
            "signatures": [asdict(check) for check in self.signatures],
            "drifted": any(check.drift for check in self.signatures),
        }

    def refuse_drift(self) -> None:
        """Raise where anything was not as recorded.

        Raises:
            ServingError: It was not.
        """
        drift = [f"{check.signature}, {line}" for check in self.signatures for line in check.drift]
        if drift:
            allowed = ", ".join(f"{name} within {value:g}" for name, value in self.expectation.tolerances.items())
            raise ServingError(
                "The server does not answer as the export did.",
                case=self.expectation.case,
                found="; ".join(drift),
                expected=f"the answers recorded in {self.export}: {allowed}",
                remedy="Serve the files of this export, unchanged. Where they are the same, the server's processor "
                "or its TensorFlow computes otherwise: see serving/README.md for tolerances.",
            )


def check_server(
    target: str,
    export: Path,
    *,
    model_name: str = MODEL_NAME,
    version: int | None = None,
    tolerances: Mapping[str, float] | None = None,
    repeats: int = 20,
    timeout_s: float = 60.0,
) -> ServerCheck:
    """Replay an export's golden requests, of both signatures, and measure.

    Args:
        target: HOST:PORT.
        export: A model folder, of which the newest version is taken, or a version directory.
        model_name: What the server calls the model.
        version: The only version to ask. None: the export's own number.
        tolerances: By output; what is left out is as `TOLERANCES` says of the export's precision.
        repeats: As in `Expectation`.
        timeout_s: As in `Expectation`.

    Raises:
        ExportError: There is no export, or it holds no golden predictions.
        ServingError: No server answers, or it refuses.
    """
    number, folder = find_version(export)
    allowed = {**TOLERANCES[read_contract(folder).precision], **(tolerances or {})}
    pinned = number or None if version is None else version
    asked = Expectation(target, model_name, pinned, allowed, repeats, timeout_s)
    golden: dict[str, list[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]]] = {}
    for request, response in read_golden(folder):
        golden.setdefault(request.model_spec.signature_name, []).append((request, response))
    with grpc.insecure_channel(target, options=_UNLIMITED) as channel:
        _connect(channel, asked)
        checks = [_check(channel, asked, name, pairs) for name, pairs in golden.items()]
    answered = {served for _, served in checks}
    return ServerCheck(asked, folder, max(answered), tuple(check for check, _ in checks))


def _connect(channel: grpc.Channel, asked: Expectation) -> None:
    try:
        grpc.channel_ready_future(channel).result(asked.timeout_s)
    except grpc.FutureTimeoutError as error:
        raise ServingError(
            "No model server answers.",
            case=asked.case,
            found=f"no connection within {asked.timeout_s:g} s",
            expected="a server of TensorFlow Serving's gRPC protocol",
            remedy="Start one with ggn-tf serve MODELS/NAME, or check host and port (8500, not the REST port).",
        ) from error


def _check(
    channel: grpc.Channel,
    asked: Expectation,
    signature: str,
    pairs: Sequence[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]],
) -> tuple[SignatureCheck, int]:
    """One signature, and the version that answered."""
    differences = dict.fromkeys(asked.tolerances, 0.0)
    drift: list[str] = []
    first_ms, served = 0.0, 0
    for number, (request, recorded) in enumerate(pairs, start=1):
        response, took_ms = _ask(channel, asked, request)
        served = response.model_spec.version.value
        first_ms = took_ms if number == 1 else first_ms
        found = compare_answers(response, recorded, asked.tolerances)
        drift += [f"request {number}: {line}" for line in found.drift]
        differences |= {name: max(differences[name], by) for name, by in found.differences.items()}
    times_ms = [_ask(channel, asked, pairs[0][0])[1] for _ in range(asked.repeats)]
    median_ms = statistics.median(times_ms)
    check = SignatureCheck(signature, len(pairs), differences, tuple(drift), round(first_ms, 2), round(median_ms, 2))
    return check, served


def _ask(
    channel: grpc.Channel, asked: Expectation, recorded: predict_pb2.PredictRequest
) -> tuple[predict_pb2.PredictResponse, float]:
    """The answer, and the milliseconds that it took."""
    request = predict_pb2.PredictRequest()
    request.CopyFrom(recorded)
    request.model_spec.name = asked.model_name
    if asked.version is not None:
        request.model_spec.version.value = asked.version
    began = time.perf_counter()
    try:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=asked.timeout_s)
    except grpc.RpcError as error:
        raise ServingError(
            "The model server refuses.",
            case=asked.case,
            found=f"{error.code().name}: {error.details()}{_served(channel, asked)}",
            expected="the model and version of the export",
            remedy="Name the model as the server does (--model-name), and the number that the export is served under "
            "(--version), or let the server load this export.",
        ) from error
    return response, 1e3 * (time.perf_counter() - began)


def _served(channel: grpc.Channel, asked: Expectation) -> str:
    """Which versions of the model there are, as far as the server tells."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = asked.model_name
    try:
        status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=asked.timeout_s)
    except grpc.RpcError:
        return ""
    versions = sorted(entry.version for entry in status.model_version_status if entry.state == _AVAILABLE)
    return f" (it serves version {', '.join(map(str, versions)) or 'none'})"
