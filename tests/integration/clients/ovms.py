"""Sends calls with the client of OpenVINO Model Server: a JSON list on stdin, responses on stdout.

It needs a process of its own, because its messages and TensorFlow's cannot be loaded into one."""

import json
import sys

import numpy as np
from ovmsclient import make_grpc_client

CODES = {
    "InvalidInputError": "INVALID_ARGUMENT",
    "ModelNotFoundError": "NOT_FOUND",
    "TimeoutError": "DEADLINE_EXCEEDED",
}
PREFIX = "Error occurred during handling the request: "


def send(client, call):
    spec = call["request"].get("model_spec", {})
    name, version = spec["name"], int(spec["version"])
    if call["method"] == "Predict":
        inputs = {
            alias: np.full([int(dim["size"]) for dim in tensor["tensor_shape"]["dim"]], *tensor["float_val"], "f4")
            for alias, tensor in call["request"]["inputs"].items()
        }
        outputs = client.predict(inputs, name, version, timeout=60.0)
        return {alias: values.tolist() for alias, values in outputs.items() if alias != "mask"}
    if call["method"] == "GetModelMetadata":
        return client.get_model_metadata(name, version)
    return client.get_model_status(name, version)


def main():
    client, responses = make_grpc_client(sys.argv[1]), []
    for call in json.load(sys.stdin):
        try:
            responses.append({"code": "OK", "message": send(client, call)})
        except Exception as error:
            code = CODES.get(type(error).__name__, type(error).__name__)
            responses.append({"code": code, "message": str(error).removeprefix(PREFIX)})
    print(json.dumps(responses, default=lambda value: value.decode()))


main()
