"""The same calls from four clients that others wrote: the official stubs, OpenVINO's, grpc-js, and buf."""

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

from ggn_tf.models.cascade import build_cascade
from ggn_tf.serving.export.golden_requests import sample_patches, sample_regions
from ggn_tf.serving.export.writer import export_model
from ggn_tf.serving.runtime.local_model import LocalModel
from ggn_tf.serving.server.server import ModelServer, ServerOptions
from ggn_tf.tasks import THREE_CLASSES
from tests.support.tiny_cascade import TINY

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


# What every client can say; OpenVINO's always names a version, and neither signature nor outputs.
REFUSED = {
    "another model": (
        predict(spec(name="other")),
        "NOT_FOUND",
        "Servable not found for request: Specific(other, 1)",
    ),
    "another version": (
        predict(spec(version="7")),
        "NOT_FOUND",
        "Servable not found for request: Specific(ggn, 7)",
    ),
    "another input": (
        predict(spec(), x=tensor(1)),
        "INVALID_ARGUMENT",
        "Signature input alias: hu(feed name: serving_default_hu:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {x}, or default input alias set: ",
    ),
    "two inputs": (
        predict(spec(), a=tensor(1), b=tensor(1)),
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({a,b}) != len({hu}). Sent extra: {a,b}. "
        "Missing but required: {hu}.",
    ),
    "another shape": (
        predict(spec(), hu=tensor(1, 32, 32, 16, 1)),
        "INVALID_ARGUMENT",
        "input hu: expected shape [N,32,32,32,1] with N at least 1, received [1,32,32,16,1]",
    ),
    "the status of another model": (
        status(spec(name="other")),
        "NOT_FOUND",
        "Could not find version 1 of model other",
    ),
    "the status of another version": (status(spec(version="7")), "NOT_FOUND", "Could not find version 7 of model ggn"),
    "the signatures of another model": (
        metadata(spec(name="other")),
        "NOT_FOUND",
        "Servable not found for request: Specific(other, 1)",
    ),
}
# What only a client can say that has all of the protocol.
REFUSED_IN_FULL = {
    "a label": (
        predict({"name": "ggn", "version_label": "stable"}),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: stable",
    ),
    "no name": (predict({}), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "another signature": (
        predict(spec(signature_name="x")),
        "FAILED_PRECONDITION",
        'Serving signature key "x" not found.',
    ),
    "an output twice": (
        predict(spec(), output_filter=["mask", "mask"]),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: mask",
    ),
    "no metadata field": (
        metadata(spec(), fields=()),
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    "the newest of another model": (
        predict({"name": "other"}),
        "NOT_FOUND",
        "Servable not found for request: Latest(other)",
    ),
    "double": (
        predict(spec(), hu={**tensor(1, 32, 32, 32, 1), "dtype": "DT_DOUBLE"}),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but double is provided",
    ),
}
ALL = REFUSED | REFUSED_IN_FULL


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients") / "ggn"
    export_model(build_cascade(3, TINY, seed=1), THREE_CLASSES, TINY, folder)
    return folder


@pytest.fixture(scope="module")
def target(exported):
    with ModelServer(exported, ServerOptions(port=0)) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def expected(exported):
    """The probabilities of a patch that is -500 HU throughout."""
    with LocalModel(exported) as model:
        return model.predict(np.full((1, 32, 32, 32, 1), -500, np.float32)).probabilities[0].tolist()


REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
}


def official(calls, target):
    answers = []
    with grpc.insecure_channel(target) as channel:
        stubs = {
            "PredictionService": prediction_service_pb2_grpc.PredictionServiceStub(channel),
            "ModelService": model_service_pb2_grpc.ModelServiceStub(channel),
        }
        for call in calls:
            request = json_format.ParseDict(call["request"], REQUESTS[call["method"]]())
            try:
                answer = getattr(stubs[call["service"]], call["method"])(request, timeout=60)
                answers.append({"code": "OK", "answer": json_format.MessageToDict(answer, True)})
            except grpc.RpcError as error:
                answers.append({"code": error.code().name, "message": error.details()})
    return answers


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
        return {"code": "OK", "answer": json.loads(process.stdout)}
    told = json.loads(process.stderr)
    return {"code": told["code"].upper(), "message": told["message"]}


in_full = [official, pytest.param(grpc_js, marks=needs_node), pytest.param(buf, marks=needs_node)]


@pytest.mark.parametrize("client", [ovms])
def test_what_every_client_can_get_wrong_is_told_alike(client, target):
    answers = client([call for call, _, _ in REFUSED.values()], target)
    found = {name: (answer["code"], answer["message"]) for name, answer in zip(REFUSED, answers, strict=True)}
    assert found == {name: (code, message) for name, (_, code, message) in REFUSED.items()}


def heard(message, client):
    """Node's HTTP/2 drops a header that ends in a space (RFC 9113, 8.2.1), as one message of the real server does."""
    return "" if client is grpc_js and message.endswith(" ") else message


@pytest.mark.parametrize("client", in_full)
def test_every_refusal_has_its_code_and_its_words(client, target):
    answers = client([call for call, _, _ in ALL.values()], target)
    found = {name: (answer["code"], answer["message"]) for name, answer in zip(ALL, answers, strict=True)}
    assert found == {name: (code, heard(message, client)) for name, (_, code, message) in ALL.items()}


@pytest.mark.parametrize("client", in_full)
def test_every_client_reads_the_answer(client, target, expected):
    (answer,) = client([predict({"name": "ggn"})], target)
    told = answer["answer"]
    found = told.get("model_spec") or told["modelSpec"]
    version = found["version"]
    assert int(version["value"] if isinstance(version, dict) else version) == 1
    outputs = told["outputs"]
    values = {name: values.get("float_val") or values.get("floatVal") for name, values in outputs.items()}
    np.testing.assert_allclose(values["probabilities"], expected, atol=1e-6)
    assert len(values["mask"]) == 32**3


def test_openvinos_client_reads_the_answer(target, expected):
    (answer,) = ovms([predict(spec())], target)
    np.testing.assert_allclose(answer["answer"]["probabilities"], [expected], atol=1e-6)
    assert answer["answer"]["class_names"] == [["AAH+AIS", "MIA", "IAC"]]


@pytest.mark.parametrize("client", [*in_full, ovms])
def test_every_client_reads_the_status(client, target):
    (answer,) = client([status(spec())], target)
    told = answer["answer"]
    ((state, code),) = (
        [(told["1"]["state"], told["1"]["error_code"])]
        if "1" in told
        else [(s["state"], s["status"].get("error_code", 0)) for s in told["model_version_status"]]
    )
    assert (state, code) in {("AVAILABLE", 0), ("AVAILABLE", "OK")}


@pytest.mark.parametrize("client", [*in_full, ovms])
def test_every_client_reads_the_signature(client, target):
    (answer,) = client([metadata(spec())], target)
    assert answer["code"] == "OK"
    assert "hu" in json.dumps(answer) or client is grpc_js  # grpc-js leaves an Any as bytes


def fields(message):
    return {
        field.name: (field.number, field.type, field.label, field.type_name, field.json_name) for field in message.field
    }


def test_the_proto_files_agree_with_the_official_messages(tmp_path):
    """Every field of ours is a field of theirs; an enum may be told as the number that it is."""
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


@pytest.fixture(scope="module")
def patch():
    return sample_patches(TINY.patch, 1, seed=3)


def test_the_python_example_asks_about_a_patch(target, exported, patch, tmp_path):
    np.save(tmp_path / "patch.npy", patch[0, ..., 0])
    result = run_example(sys.executable, CLIENTS / "python" / "ask.py", target, tmp_path / "patch.npy")
    assert_answers(result, exported, patch)


@needs_node
def test_the_node_example_asks_about_a_patch(target, exported, patch, tmp_path):
    patch.astype("<f4").tofile(tmp_path / "patch.raw")
    result = run_example("node", node_example(tmp_path), target, tmp_path / "patch.raw")
    assert_answers(result, exported, patch)


@pytest.fixture(scope="module")
def region():
    """One region, its spacing and its centre."""
    return tuple(part[:1] for part in sample_regions(seed=3))


def test_the_python_example_asks_about_a_region(target, exported, region, tmp_path):
    hu, spacing_mm, center_index = region
    np.save(tmp_path / "region.npy", hu[0])
    flags = ["--spacing", *map(str, spacing_mm[0]), "--center", *map(str, center_index[0])]
    result = run_example(sys.executable, CLIENTS / "python" / "ask.py", target, tmp_path / "region.npy", *flags)
    assert_answers(result, exported, *region)


@needs_node
def test_the_node_example_asks_about_a_region(target, exported, region, tmp_path):
    hu, spacing_mm, center_index = region
    hu.astype("<f4").tofile(tmp_path / "region.raw")
    triples = {"--shape": hu[0].shape, "--spacing": spacing_mm[0], "--center": center_index[0]}
    flags = [text for name, triple in triples.items() for text in (name, ",".join(map(str, triple)))]
    result = run_example("node", node_example(tmp_path), target, tmp_path / "region.raw", *flags)
    assert_answers(result, exported, *region)


def node_example(folder):
    """Beside the modules, which are not in the repository."""
    shutil.copy(CLIENTS / "node" / "ask.mjs", folder)
    shutil.copytree(PROTOS, folder.parent / "proto", dirs_exist_ok=True)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(MODULES)
    return folder / "ask.mjs"


def assert_answers(result, exported, hu, *geometry):
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    with LocalModel(exported) as model:
        expected = model.predict_roi(hu, *geometry) if geometry else model.predict(hu)
    assert answer["warning"] == expected.warnings[0]
    assert answer["version"] == 1
    assert list(answer["probabilities"]) == ["AAH+AIS", "MIA", "IAC"]
    np.testing.assert_allclose(list(answer["probabilities"].values()), expected.probabilities[0], atol=1e-6)
    assert answer["nodule_voxels"] == (expected.mask > 0.5).sum()


@pytest.mark.parametrize("language", ["python", pytest.param("node", marks=needs_node)])
def test_an_example_tells_the_servers_words(language, target, tmp_path):
    if language == "python":
        np.save(tmp_path / "patch", np.zeros((32, 32, 16), np.float32))
        command = [sys.executable, CLIENTS / "python" / "ask.py", target, tmp_path / "patch.npy"]
        told = "error: input hu: expected shape [N,32,32,32,1] with N at least 1, received [1,32,32,16,1]\n"
    else:
        np.zeros((32, 32, 32), "<f4").tofile(tmp_path / "patch")
        command = ["node", node_example(tmp_path), target, tmp_path / "patch", "--model", "other"]
        told = "error: Servable not found for request: Latest(other)\n"
    result = run_example(*command)
    assert (result.returncode, result.stderr) == (1, told)


SHELL = re.findall(r"^```\n(buf curl.+?)\n```$", (CLIENTS / "README.md").read_text(encoding="utf-8"), re.M | re.S)


@needs_node
@pytest.mark.parametrize(("command", "told"), zip(SHELL, ['"state": "AVAILABLE"', '"probabilities"'], strict=True))
def test_the_shell_examples_run_as_they_are_written(command, told, target):
    environment = {**os.environ, "PATH": f"{MODULES / '.bin'}{os.pathsep}{os.environ['PATH']}"}
    command = command.replace("127.0.0.1:8500", target)
    root = CLIENTS.parents[1]
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, encoding="utf-8", timeout=60, env=environment, cwd=root
    )
    assert result.returncode == 0, result.stderr
    assert told in result.stdout


@needs_node
def test_the_modules_are_the_locked_ones():
    lock = json.loads((CLIENTS / "node" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name in ("@grpc/grpc-js", "@grpc/proto-loader"):
        installed = json.loads((MODULES / name / "package.json").read_text(encoding="utf-8"))["version"]
        assert installed == lock[f"node_modules/{name}"]["version"]
