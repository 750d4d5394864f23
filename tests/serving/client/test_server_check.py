"""Golden requests on live servers: one that serves the export, and others that claim to."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from ggn_tf.cli import main
from ggn_tf.errors import ExportError, ServingError
from ggn_tf.serving.client.server_check import check_server, compare_responses
from ggn_tf.serving.contract.messages import read_golden
from ggn_tf.serving.contract.tensors import decode, encode_content, encode_fields
from ggn_tf.serving.contract.version_folders import CHECKSUMS_FILE
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from ggn_tf.tasks import THREE_CLASSES
from tests.support.loopback_server import free_port
from tests.support.prediction_server import serving
from tests.support.small_model import build_small_model


def target_of(server):
    return f"127.0.0.1:{server.port}"


def drift_of(check):
    with pytest.raises(ServingError, match="predictions differ") as caught:
        check.refuse_drift()
    return caught.value


class Replaying(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Responds to golden requests as recorded, after `change` has changed the outputs."""

    def __init__(self, folder, change):
        self.golden = {request.inputs["hu"].tensor_content: response for request, response in read_golden(folder)}
        self.change = change

    def Predict(self, request, context):  # noqa: N802
        response = self.golden[request.inputs["hu"].tensor_content]
        changed = type(response)()
        changed.CopyFrom(response)
        self.change(changed.outputs)
        return changed


def test_the_server_of_the_export_passes(server, exported):
    check = check_server(target_of(server), exported, repeats=3)
    check.refuse_drift()
    counts = {part.signature: part.requests for part in check.signatures}
    assert counts == {"serving_default": 3, "roi": 2, "roi_recentered": 1}
    assert check.version == 1
    for part in check.signatures:
        assert max(part.differences.values()) < 1e-5
        assert part.median_ms > 0 and part.first_ms > 0


def test_other_weights_are_drift_in_both_signatures(tiny, exported, tmp_path):
    export_model(build_small_model(seed=2), THREE_CLASSES, tiny, tmp_path)
    with ModelServer(tmp_path, ServerOptions(port=0)) as other:
        check = check_server(target_of(other), exported, repeats=1)
    error = drift_of(check)
    assert error.case.startswith("model ggn version 1 on 127.0.0.1:")
    assert "serving_default, request 1: mask differs by" in error.found
    assert "roi, request 2: mask differs by" in error.found
    assert error.expected.endswith("probabilities within 0.001, mask within 0.01")


def shift(name, by):
    def change(outputs):
        outputs[name].CopyFrom(encode_fields(decode(outputs[name]) + np.float32(by)))

    return change


def rename(outputs):
    names = decode(outputs["class_names"])
    outputs["class_names"].CopyFrom(tf.make_tensor_proto(names[:, ::-1]))


def lose(outputs):
    del outputs["mask"]


def flatten(outputs):
    outputs["mask"].CopyFrom(encode_fields(decode(outputs["mask"])[..., 0]))


def be_silent(outputs):
    outputs["warning"].CopyFrom(tf.make_tensor_proto(np.full(len(decode(outputs["warning"])), b"", object)))


def declare_much(outputs):
    outputs["mask"].tensor_content = b""
    outputs["mask"].float_val[:] = [0.5]
    outputs["mask"].tensor_shape.dim[0].size = 2**14


def write_no_text(outputs):
    outputs["warning"].string_val[:] = [b"\xff: x"] * len(outputs["warning"].string_val)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (declare_much, "mask cannot be read, or is larger than float32 (1, 32, 32, 32, 1)"),
        (write_no_text, "warning: \ufffd: x instead of"),
        (shift("probabilities", 0.002), "probabilities differs by 0.002"),
        (shift("mask", -0.02), "mask differs by 0.02"),
        (shift("mask", np.nan), "mask differs by nan"),
        (rename, "class_names: AAH+AIS, IAC, MIA instead of"),
        (lose, "mask is missing"),
        (flatten, "mask is float32 (1, 32, 32, 32) instead of float32 (1, 32, 32, 32, 1)"),
        (be_silent, "warning: empty instead of"),
    ],
)
def test_any_other_response_is_drift(change, found, exported):
    with serving(Replaying(exported / "1", change)) as target:
        assert found in drift_of(check_server(target, exported, repeats=1)).found


def test_a_difference_within_the_tolerance_is_no_drift(exported):
    with serving(Replaying(exported / "1", shift("probabilities", 0.0005))) as target:
        check = check_server(target, exported, repeats=1)
        strict = check_server(target, exported, repeats=1, tolerances={"probabilities": 1e-4})
    check.refuse_drift()
    assert check.signatures[0].differences == pytest.approx({"probabilities": 0.0005, "mask": 0.0}, abs=1e-6)
    assert "within 0.0001" in drift_of(strict).expected


def test_no_server(exported):
    with pytest.raises(ServingError) as caught:
        check_server(f"127.0.0.1:{free_port()}", exported, timeout_s=0.5)
    assert caught.value.found == "no connection"


def test_another_name(server, exported):
    with pytest.raises(ServingError) as caught:
        check_server(target_of(server), exported, model_name="lung")
    assert caught.value.found.startswith("NOT_FOUND: ")
    assert caught.value.arguments == ("model_name", "version")


def test_another_version_is_reported_with_the_served_ones(server, exported, tmp_path):
    shutil.copytree(exported / "1", tmp_path / "7")
    with pytest.raises(ServingError) as caught:
        check_server(target_of(server), tmp_path)
    assert caught.value.case.startswith("model ggn version 7 on ")
    assert caught.value.found.endswith(" (it serves version 1)")
    check_server(target_of(server), tmp_path, version=1, repeats=1).refuse_drift()


@pytest.mark.parametrize("content", [None, b"", b"no record at all"])
def test_an_export_without_golden_predictions(content, server, exported, tmp_path):
    shutil.copytree(exported / "1", tmp_path / "1")
    file = tmp_path / "1" / "assets.extra" / "golden_predictions"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ExportError, match="golden_predictions"):
        check_server(target_of(server), tmp_path)
    file.with_name(CHECKSUMS_FILE).unlink()
    with pytest.raises(ExportError) as caught:
        check_server(target_of(server), tmp_path)
    assert caught.value.case == str(file)


def serve_check(*arguments):
    return CliRunner().invoke(main, ["serve-check", *map(str, arguments)])


def test_the_command_prints_one_document(server, exported):
    result = serve_check("--server", target_of(server), "--export", exported, "--repeats", 1, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["version"], document["drifted"]) == (1, False)
    assert [part["signature"] for part in document["signatures"]] == ["serving_default", "roi", "roi_recentered"]


def test_the_command_prints_a_summary(server, exported):
    result = serve_check("--server", target_of(server), "--export", exported, "--repeats", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"ggn version 1 on {target_of(server)}, compared with {exported / '1'}\n")
    assert "median" in result.stdout


def test_the_command_exits_with_1_on_drift(exported):
    with serving(Replaying(exported / "1", lose)) as target:
        result = serve_check("--server", target, "--export", exported, "--repeats", 1, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["drifted"] is True
    for part in ("error: ", "case:", "found:", "expected:", "remedy:"):
        assert part in result.stderr


@pytest.mark.parametrize(
    ("in_set", "probability", "drifts"),
    [
        ([1, 0], 0.3, False),
        ([1, 1], 0.3, True),
        ([1, 1], 0.3004, False),
        ([0, 0], 0.3004, False),
        ([0, 0], 0.2996, True),
    ],
)
def test_a_set_changes_only_with_its_probability(in_set, probability, drifts):
    def response(inside, second):
        built = predict_pb2.PredictResponse()
        built.outputs["in_set"].CopyFrom(encode_content(np.float32([inside]), "float32"))
        built.outputs["probabilities"].CopyFrom(encode_content(np.float32([[1 - second, second]]), "float32"))
        return built

    found = compare_responses(response(in_set, probability), response([1, 0], 0.3), {"probabilities": 1e-3})
    assert bool(found.drift) == drifts
