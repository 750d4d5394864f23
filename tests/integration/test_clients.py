"""The same calls from four clients of other authors: the official stubs, OpenVINO's, grpc-js and buf."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ggn_tf.serving.export.golden_requests import sample_patches, sample_regions
from ggn_tf.serving.runtime.predict_request import LocalModel
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from tests.support.tiny_protocol import TINY

CLIENTS = Path(__file__).parents[2] / "serving" / "clients"
PROTOS = CLIENTS / "proto"
DRIVERS = Path(__file__).parent / "clients"
MODULES = Path(os.environ.get("GGN_TF_NODE_MODULES", "no-such-folder"))

needs_node = pytest.mark.skipif(
    not shutil.which("node") or not MODULES.is_dir(),
    reason="needs node, and GGN_TF_NODE_MODULES naming a node_modules with what .ci/run installs",
)


def tensor(*shape):
    return {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": str(size)} for size in shape]},
        "float_val": [-500.0],
    }


def spec(name="ggn", version="1", **more):
    return {"name": name, "version": version, **more}


def predict(model_spec, output_filter=(), **inputs):
    request = {"model_spec": model_spec, "inputs": inputs or {"hu": tensor(1, 32, 32, 32, 1)}}
    return {"service": "PredictionService", "method": "Predict", "request": {**request, "output_filter": output_filter}}


def status(model_spec):
    return {"service": "ModelService", "method": "GetModelStatus", "request": {"model_spec": model_spec}}


def metadata(model_spec, fields=("signature_def",)):
    request = {"model_spec": model_spec, "metadata_field": fields}
    return {"service": "PredictionService", "method": "GetModelMetadata", "request": request}


# Requests that every client can send; OpenVINO's always names a version, and neither signature nor outputs.
REFUSED = {
    "another model": (predict(spec(name="other")), "NOT_FOUND"),
    "another version": (predict(spec(version="7")), "NOT_FOUND"),
    "another input": (predict(spec(), x=tensor(1)), "INVALID_ARGUMENT"),
    "another shape": (predict(spec(), hu=tensor(1, 32, 32, 16, 1)), "INVALID_ARGUMENT"),
    "the status of another version": (status(spec(version="7")), "NOT_FOUND"),
    "the signatures of another model": (metadata(spec(name="other")), "NOT_FOUND"),
}
# Requests that need a client with all of the protocol.
REFUSED_IN_FULL = REFUSED | {
    "a label": (predict({"name": "ggn", "version_label": "stable"}), "INVALID_ARGUMENT"),
    "no name": (predict({}), "INVALID_ARGUMENT"),
    "another signature": (predict(spec(signature_name="x")), "FAILED_PRECONDITION"),
    "an output twice": (predict(spec(), output_filter=["mask", "mask"]), "INVALID_ARGUMENT"),
    "no metadata field": (metadata(spec(), fields=()), "INVALID_ARGUMENT"),
}


@pytest.fixture(scope="module")
def target(small_export):
    with ModelServer(small_export, ServerOptions(port=0)) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def expected(small_export):
    """The probabilities of a patch that is -500 HU throughout."""
    with LocalModel(small_export) as model:
        return model.predict(np.full((1, 32, 32, 32, 1), -500, np.float32)).probabilities[0].tolist()


REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
}


def official(calls, target):
    responses = []
    with grpc.insecure_channel(target) as channel:
        stubs = {
            "PredictionService": prediction_service_pb2_grpc.PredictionServiceStub(channel),
            "ModelService": model_service_pb2_grpc.ModelServiceStub(channel),
        }
        for call in calls:
            request = json_format.ParseDict(call["request"], REQUESTS[call["method"]]())
            try:
                response = getattr(stubs[call["service"]], call["method"])(request, timeout=60)
                responses.append({"code": "OK", "message": json_format.MessageToDict(response, True)})
            except grpc.RpcError as error:
                responses.append({"code": error.code().name, "message": error.details()})
    return responses


def by_process(calls, *command):
    process = subprocess.run(
        command, input=json.dumps(calls), capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def ovms(calls, target):
    return by_process(calls, sys.executable, DRIVERS / "ovms.py", target)


def grpc_js(calls, target):
    return by_process(calls, "node", DRIVERS / "grpc_js.mjs", target, PROTOS, MODULES)


def buf(calls, target):
    return [_buf_curl(call, target) for call in calls]


def _buf_curl(call, target):
    url = f"http://{target}/tensorflow.serving.{call['service']}/{call['method']}"
    flags = ["--protocol", "grpc", "--http2-prior-knowledge", "--schema", str(PROTOS), "-d", "@-"]
    process = subprocess.run(
        [MODULES / ".bin" / "buf", "curl", *flags, url],
        input=json.dumps(call["request"]),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    if process.returncode == 0:
        return {"code": "OK", "message": json.loads(process.stdout)}
    error = json.loads(process.stderr)
    return {"code": error["code"].upper(), "message": error["message"]}


in_full = [pytest.param(official), pytest.param(grpc_js, marks=needs_node), pytest.param(buf, marks=needs_node)]


@pytest.mark.parametrize(
    ("client", "cases"),
    [(ovms, REFUSED), *(pytest.param(p.values[0], REFUSED_IN_FULL, marks=p.marks) for p in in_full)],
)
def test_every_client_reads_the_status_code_and_the_message(client, cases, target):
    responses = client([call for call, _ in cases.values()], target)
    found = {name: response["code"] for name, response in zip(cases, responses, strict=True)}
    assert found == {name: code for name, (_, code) in cases.items()}
    assert all(response["message"] for response in responses)


@pytest.mark.parametrize("client", in_full)
def test_every_client_reads_the_prediction(client, target, expected):
    (response,) = client([predict({"name": "ggn"})], target)
    message = response["message"]
    version = (message.get("model_spec") or message["modelSpec"])["version"]
    assert int(version["value"] if isinstance(version, dict) else version) == 1
    outputs = message["outputs"].items()
    values = {name: values.get("float_val") or values.get("floatVal") for name, values in outputs}
    np.testing.assert_allclose(values["probabilities"], expected, atol=1e-6)
    assert len(values["mask"]) == 32**3


def test_openvinos_client_reads_the_prediction(target, expected):
    (response,) = ovms([predict(spec())], target)
    np.testing.assert_allclose(response["message"]["probabilities"], [expected], atol=1e-6)
    assert response["message"]["class_names"] == [["AAH+AIS", "MIA", "IAC"]]


@pytest.mark.parametrize("client", [*in_full, ovms])
def test_every_client_reads_status_and_signature(client, target):
    responses = client([status(spec()), metadata(spec())], target)
    assert [response["code"] for response in responses] == ["OK", "OK"]
    assert "AVAILABLE" in json.dumps(responses[0])
    assert "hu" in json.dumps(responses[1]) or client is grpc_js  # grpc-js leaves an Any as bytes


def fields(message):
    return {
        field.name: (field.number, field.type, field.label, field.type_name, field.json_name) for field in message.field
    }


def test_the_proto_files_agree_with_the_official_messages(tmp_path):
    """Every field of ours is a field of theirs; an enum may be its number."""
    out = tmp_path / "set"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", "--include_imports", f"-o{out}"]
    subprocess.run([*command, "tensorflow_serving.proto"], check=True)
    files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    ours = {(file.package, message.name): message for file in files for message in file.message_type}
    theirs = _official_messages()
    checked = 0
    for (package, name), message in ours.items():
        if package.startswith("tensorflow"):
            official_fields = fields(theirs[package, name])
            for field, described in fields(message).items():
                if (name, field) == ("StatusProto", "error_code"):
                    continue
                theirs_described = official_fields[field]
                json_name = theirs_described[-1] or described[-1]
                assert described == (*theirs_described[:-1], json_name), (name, field)
                checked += 1
    assert checked > 30


def _official_messages():
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import model_pb2, status_pb2

    modules = [tensor_pb2, tensor_shape_pb2, meta_graph_pb2, model_pb2, status_pb2, predict_pb2]
    found = {}
    for module in [*modules, get_model_metadata_pb2, get_model_status_pb2]:
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        found.update({(file.package, message.name): message for message in file.message_type})
    return found


def run_example(*command):
    environment = {**os.environ, "PYTHONPATH": ""}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, env=environment)


def python_command(target, folder, hu, *geometry):
    np.save(folder / "hu.npy", hu[0] if geometry else hu[0, ..., 0])
    triples = zip(("--spacing", "--center"), geometry, strict=bool(geometry))
    more = [part for flag, triple in triples for part in (flag, *map(str, triple[0]))]
    return [sys.executable, CLIENTS / "python" / "ask.py", target, folder / "hu.npy", *more]


def node_command(target, folder, hu, *geometry):
    hu.astype("<f4").tofile(folder / "hu.raw")
    triples = {"shape": hu[0].shape, "spacing": geometry[0][0], "center": geometry[1][0]} if geometry else {}
    more = [part for name, triple in triples.items() for part in (f"--{name}", ",".join(map(str, triple)))]
    return ["node", node_example(folder), target, folder / "hu.raw", *more]


commands = pytest.mark.parametrize("command", [python_command, pytest.param(node_command, marks=needs_node)])


def from_right_with_slices_second(hu, spacing_mm, center_index):
    """A region of axes S, P, L as a file stores it whose axes are R, S, P."""
    order, center = [2, 0, 1], center_index[:, [2, 0, 1]]
    center[:, 0] = hu.shape[3] - 1 - center[:, 0]
    return np.flip(hu.transpose(0, 3, 1, 2), 1), spacing_mm[:, order], center


@commands
@pytest.mark.parametrize("kind", ["patch", "region", "region RSP"])
def test_an_example_predicts(kind, command, target, small_export, tmp_path):
    patch, region = (sample_patches(TINY.patch, 1, seed=3),), [part[:1] for part in sample_regions(seed=3)]
    inputs = patch if kind == "patch" else region
    sent, axes = (from_right_with_slices_second(*region), ["--axes", "RSP"]) if "RSP" in kind else (inputs, [])
    result = run_example(*command(target, tmp_path, *sent), *axes)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    with LocalModel(small_export) as model:
        expected = (model.predict if kind == "patch" else model.predict_roi)(*inputs)
    assert (found["warning"], found["version"]) == (expected.warnings[0], 1)
    assert list(found["probabilities"]) == ["AAH+AIS", "MIA", "IAC"]
    np.testing.assert_allclose(list(found["probabilities"].values()), expected.probabilities[0], atol=1e-6)
    assert found["nodule_voxels"] == (expected.mask > 0.5).sum()


@commands
def test_an_example_prints_the_servers_message(command, target, tmp_path):
    arguments = command(target, tmp_path, np.zeros((1, 32, 32, 32, 1), np.float32))
    result = run_example(*arguments, "--model", "other")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and "other" in result.stderr


def node_example(folder):
    """Beside the modules, which are not in the repository."""
    shutil.copy(CLIENTS / "node" / "ask.mjs", folder)
    shutil.copytree(PROTOS, folder.parent / "proto", dirs_exist_ok=True)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(MODULES)
    return folder / "ask.mjs"


SHELL = re.findall(r"^```\n(buf curl.+?)\n```$", (CLIENTS / "README.md").read_text(encoding="utf-8"), re.M | re.S)


@needs_node
@pytest.mark.parametrize(("command", "expected"), [(SHELL[0], '"state": "AVAILABLE"'), (SHELL[1], '"probabilities"')])
def test_the_shell_examples_run_as_they_are_written(command, expected, target):
    environment = {**os.environ, "PATH": f"{MODULES / '.bin'}{os.pathsep}{os.environ['PATH']}"}
    command = command.replace("127.0.0.1:8500", target)
    root = CLIENTS.parents[1]
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, encoding="utf-8", timeout=60, env=environment, cwd=root
    )
    assert result.returncode == 0, result.stderr
    assert expected in result.stdout


@needs_node
def test_the_modules_are_the_locked_ones():
    lock = json.loads((CLIENTS / "node" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name in ("@grpc/grpc-js", "@grpc/proto-loader"):
        installed = json.loads((MODULES / name / "package.json").read_text(encoding="utf-8"))["version"]
        assert installed == lock[f"node_modules/{name}"]["version"]
