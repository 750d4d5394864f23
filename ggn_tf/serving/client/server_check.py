"""Check whether a live server gives the predictions of the export that it claims to serve, by its golden requests."""

import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ggn_tf.errors import ServingError
from ggn_tf.serving.client.client_protocol import ServedName, channel_options, open_channel, server_error, unreachable
from ggn_tf.serving.contract.export_contract import read_contract
from ggn_tf.serving.contract.messages import read_golden
from ggn_tf.serving.contract.tensors import decode
from ggn_tf.serving.contract.tls import ClientTls, full_address
from ggn_tf.serving.contract.version_folders import find_version
from ggn_tf.serving.contract.warning_texts import (
    ATYPICAL,
    DENSE,
    LARGER_THAN_PATCH,
    MOVED_FAR,
    NO_NODULE,
    PARTLY_OUTSIDE_CT,
    UNDECIDED,
)
from ggn_tf.serving.contract.wire import (
    MODEL_NAME,
    OUTPUT_CLASS_NAMES,
    OUTPUT_PROBABILITIES,
    OUTPUT_SET,
    OUTPUT_WARNING,
    SIGNATURE_RECENTERED,
    TOLERANCES_RECENTERED,
)

_LEAST_BYTES = 2**20
# These depend on single voxels of the mask, on probabilities and ranks, which may differ within their tolerance.
_MASK_WARNINGS = {kind.code for kind in (NO_NODULE, LARGER_THAN_PATCH, DENSE, UNDECIDED, ATYPICAL)}
# And these on the centre that the mask leads to.
_CENTER_WARNINGS = {MOVED_FAR.code, PARTLY_OUTSIDE_CT.code}


@dataclass
class Comparison:
    """A response beside the recorded one: differences that are not tolerated, as text, and the largest by output."""

    drift: list[str] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)


def compare_responses(
    response: predict_pb2.PredictResponse,
    recorded: predict_pb2.PredictResponse,
    tolerances: Mapping[str, float],
    ignored: Collection[str] = frozenset(_MASK_WARNINGS),
) -> Comparison:
    """Compare the outputs with the recorded ones.

    Numbers may differ by the tolerance of their output, warnings by the ignored codes.
    """
    comparison, moved = Comparison(), dict[str, np.ndarray]()
    for name in sorted(recorded.outputs):
        if name not in response.outputs:
            comparison.drift.append(f"{name} is missing")
            continue
        expected = decode(recorded.outputs[name])
        try:
            found = decode(response.outputs[name], max(expected.nbytes, _LEAST_BYTES))
        except ValueError:
            comparison.drift.append(f"{name} cannot be read, or is larger than {expected.dtype} {expected.shape}")
            continue
        if found.shape != expected.shape or found.dtype != expected.dtype:
            comparison.drift.append(
                f"{name} is {found.dtype} {found.shape} instead of {expected.dtype} {expected.shape}"
            )
            continue
        if name in (OUTPUT_SET, OUTPUT_PROBABILITIES):
            moved[name] = np.sign(found - expected)
        if name in tolerances:
            difference = comparison.differences[name] = float(np.max(np.abs(found - expected), initial=0.0))
            # A difference of NaN is drift, too.
            if not difference <= tolerances[name]:
                comparison.drift.append(f"{name} differs by {difference:.3g}")
        elif (name == OUTPUT_CLASS_NAMES and (found != expected).any()) or (
            name == OUTPUT_WARNING and _codes(found, ignored) != _codes(expected, ignored)
        ):
            comparison.drift.append(f"{name}: {_text(found)} instead of {_text(expected)}")
    if len(moved) == 2 and ((moved[OUTPUT_SET] != 0) & (moved[OUTPUT_SET] != moved[OUTPUT_PROBABILITIES])).any():
        comparison.drift.append(f"{OUTPUT_SET} differs where the probabilities do not")
    return comparison


def _codes(warnings: np.ndarray, ignored: Collection[str]) -> list[set[str]]:
    lines = [warning.decode("utf-8", "replace").splitlines() for warning in warnings]
    return [{line.split(":")[0] for line in of_row}.difference(ignored) for of_row in lines]


def _text(values: np.ndarray) -> str:
    return ", ".join(value.decode("utf-8", "replace") or "empty" for value in np.unique(values))


_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


@dataclass(frozen=True)
class CheckSettings:
    """What is checked, and how strictly: the largest difference by output, and repetitions for the median latency."""

    model: ServedName
    tolerances: Mapping[str, float]
    repeats: int
    timeout_s: float


@dataclass(frozen=True)
class SignatureCheck:
    """A server's responses to the golden requests of one signature; `drift` are differences that are not tolerated."""

    signature: str
    requests: int
    differences: dict[str, float]
    drift: tuple[str, ...]
    first_ms: float
    median_ms: float


@dataclass(frozen=True)
class ServerCheck:
    """A server's responses to all golden requests of the export with which it was compared."""

    settings: CheckSettings
    export: Path
    version: int
    signatures: tuple[SignatureCheck, ...]

    def to_dict(self) -> dict[str, Any]:
        """The check as JSON types."""
        return {
            "server": self.settings.model.target,
            "model_name": self.settings.model.model_name,
            "version": self.version,
            "export": str(self.export),
            "tolerances": dict(self.settings.tolerances),
            "signatures": [asdict(check) for check in self.signatures],
            "drifted": any(check.drift for check in self.signatures),
        }

    def refuse_drift(self) -> None:
        """Raise a ServingError if any response differs from the recorded one."""
        drift = [f"{check.signature}, {line}" for check in self.signatures for line in check.drift]
        if drift:
            allowed = ", ".join(f"{name} within {value:g}" for name, value in self.settings.tolerances.items())
            raise ServingError(
                "The server's predictions differ from those of the export.",
                case=self.settings.model,
                found="; ".join(drift),
                expected=f"the predictions recorded in {self.export}: {allowed}",
                remedy="Serve the files of this export, unchanged. If they are the same, the server's processor or its "
                "TensorFlow computes differently: see serving/README.md for tolerances.",
            )


def check_server(
    target: str,
    export: Path,
    *,
    model_name: str = MODEL_NAME,
    version: int | None = None,
    tolerances: Mapping[str, float] | None = None,
    repeats: int = 5,
    timeout_s: float = 60.0,
    proxy: str | None = None,
    tls: ClientTls | None = None,
) -> ServerCheck:
    """Replay an export's golden requests of all signatures, compare the responses and measure the latency.

    The export is a version directory, or a model folder, whose newest version is taken. Without a version its own
    number is used, without tolerances those of its contract. One request per signature is repeated for
    the median latency; `timeout_s` is the time for the connection and for each request, in seconds. The
    proxy is an HTTP proxy to connect through; None for none, whatever the environment names. `tls` has the files for an
    encrypted connection.

    Raises:
        ExportError: There is no export, or it contains no golden predictions.
        ServingError: The server cannot be reached, or refuses a request.
    """
    number, folder = find_version(export)
    model = ServedName(full_address(target), model_name, (number or None) if version is None else version)
    given = tolerances or {}
    allowed = {name: given.get(name, by) for name, by in read_contract(folder).tolerances.items()}
    settings = CheckSettings(model, allowed, repeats, timeout_s)
    golden: dict[str, list[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]]] = {}
    for request, response in read_golden(folder):
        golden.setdefault(request.model_spec.signature_name, []).append((request, response))
    credentials = None if tls is None else tls.credentials()
    with open_channel(model.target, channel_options(proxy), credentials) as channel:
        _connect(channel, settings)
        checks = [_check(channel, settings, name, pairs) for name, pairs in golden.items()]
    return ServerCheck(settings, folder, max(served for _, served in checks), tuple(check for check, _ in checks))


def _connect(channel: grpc.Channel, settings: CheckSettings) -> None:
    try:
        grpc.channel_ready_future(channel).result(settings.timeout_s)
    except grpc.FutureTimeoutError as error:
        raise unreachable(settings.model, "no connection", settings.timeout_s) from error


def _check(
    channel: grpc.Channel,
    settings: CheckSettings,
    signature: str,
    pairs: Sequence[tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]],
) -> tuple[SignatureCheck, int]:
    moves = signature == SIGNATURE_RECENTERED
    tolerances = TOLERANCES_RECENTERED if moves else settings.tolerances
    ignored = _MASK_WARNINGS | _CENTER_WARNINGS if moves else _MASK_WARNINGS
    differences = dict.fromkeys(tolerances, 0.0)
    drift: list[str] = []
    first_ms, served = 0.0, 0
    for number, (request, recorded) in enumerate(pairs, start=1):
        response, took_ms = _predict(channel, settings, request)
        served = response.model_spec.version.value
        first_ms = took_ms if number == 1 else first_ms
        comparison = compare_responses(response, recorded, tolerances, ignored)
        drift += [f"request {number}: {line}" for line in comparison.drift]
        differences |= {name: max(differences[name], by) for name, by in comparison.differences.items()}
    median_ms = statistics.median(_predict(channel, settings, pairs[0][0])[1] for _ in range(settings.repeats))
    check = SignatureCheck(signature, len(pairs), differences, tuple(drift), round(first_ms, 2), round(median_ms, 2))
    return check, served


def _predict(
    channel: grpc.Channel, settings: CheckSettings, recorded: predict_pb2.PredictRequest
) -> tuple[predict_pb2.PredictResponse, float]:
    """The response, and the time that it took, ms."""
    request = predict_pb2.PredictRequest()
    request.CopyFrom(recorded)
    request.model_spec.name = settings.model.model_name
    if settings.model.version is not None:
        request.model_spec.version.value = settings.model.version
    began = time.perf_counter()
    try:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=settings.timeout_s)
    except grpc.RpcError as error:
        raise server_error(settings.model, error, settings.timeout_s, _served(channel, settings)) from error
    return response, 1e3 * (time.perf_counter() - began)


def _served(channel: grpc.Channel, settings: CheckSettings) -> str:
    """The versions that the server has, if it reports them."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = settings.model.model_name
    try:
        status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=settings.timeout_s)
    except grpc.RpcError:
        return ""
    versions = sorted(entry.version for entry in status.model_version_status if entry.state == _AVAILABLE)
    return f" (it serves version {', '.join(map(str, versions)) or 'none'})"
