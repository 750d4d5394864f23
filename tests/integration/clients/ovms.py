"""Carries calls by OpenVINO Model Server's client: a JSON list on stdin, answers on stdout; in a process of its own,
because its messages and TensorFlow's do not get along in one."""

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


def ask(client, call):
    spec = call["request"].get("model_spec", {})
    name, version = spec["name"], int(spec["version"])
    if call["method"] == "Predict":
        inputs = {
            alias: np.full([int(dim["size"]) for dim in tensor["tensor_shape"]["dim"]], *tensor["float_val"], "f4")
            for alias, tensor in call["request"]["inputs"].items()
        }
        answer = client.predict(inputs, name, version, timeout=60.0)
        return {alias: values.tolist() for alias, values in answer.items() if alias != "mask"}
    if call["method"] == "GetModelMetadata":
        return client.get_model_metadata(name, version)
    return client.get_model_status(name, version)


def main():
    client, answers = make_grpc_client(sys.argv[1]), []
    for call in json.load(sys.stdin):
        try:
            answers.append({"code": "OK", "answer": ask(client, call)})
        except Exception as error:
            code = CODES.get(type(error).__name__, type(error).__name__)
            answers.append({"code": code, "message": str(error).removeprefix(PREFIX)})
    print(json.dumps(answers, default=lambda value: value.decode()))


main()
