"""Predict one nodule with a model server, TensorFlow Serving or `ggn-tf serve`. Needs neither TensorFlow nor ggn_tf.

pip install -r requirements.txt
python ask.py 127.0.0.1:8500 region.npy --spacing 1.25 0.7 0.7 --center 20 31.5 32 --axes IPL
python ask.py 127.0.0.1:8500 patch.npy

FILE is a NumPy array of Hounsfield units. With --spacing and --center it is a region of the CT, from which the server
cuts the patch (signature `roi`), and --axes names the directions in which its three axes run: IPL for slices from head
to feet. Without, it is a patch of 32 x 32 x 32 that is already cut (`serving_default`), axes S, P, L. Prints one JSON
document.
"""

import argparse
import json
import sys
from pathlib import Path

import grpc
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "proto"))
messages, services = grpc.protos_and_services("tensorflow_serving.proto")

SECONDS = 30
# gRPC's own limit is 4 MiB, and by default it uses the proxies of the environment.
OPTIONS = [
    ("grpc.max_receive_message_length", 2**26),
    ("grpc.max_send_message_length", 2**26),
    ("grpc.enable_http_proxy", 0),
]
DT_FLOAT, DT_DOUBLE = 1, 2
AXIS = {"S": 0, "I": 0, "P": 1, "A": 1, "L": 2, "R": 2}


def fill(tensor, values, dtype=DT_FLOAT):
    values = np.ascontiguousarray(values, "<f4" if dtype == DT_FLOAT else "<f8")
    tensor.dtype = dtype
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = values.tobytes()


def to_spl(hu, spacing_mm, center_index, axes):
    """Bring a region into the order that the model takes: axes towards superior, posterior and left."""
    order = np.argsort([AXIS[letter] for letter in axes])
    hu, spacing_mm, center_index = hu.transpose(order), np.take(spacing_mm, order), np.take(center_index, order)
    turned = [axis for axis in range(3) if axes[order[axis]] != "SPL"[axis]]
    for axis in turned:
        center_index[axis] = hu.shape[axis] - 1 - center_index[axis]
    return np.flip(hu, turned), spacing_mm, center_index


def three_axes(text):
    if sorted(AXIS.get(letter, -1) for letter in text) != [0, 1, 2]:
        raise argparse.ArgumentTypeError("three letters, one each of S or I, P or A, and L or R")
    return text


def make_request(model, hu, spacing_mm, center_index):
    request = messages.PredictRequest()
    request.model_spec.name = model
    if spacing_mm is None:
        request.model_spec.signature_name = "serving_default"
        fill(request.inputs["hu"], hu[None, ..., None])
    else:
        request.model_spec.signature_name = "roi"
        fill(request.inputs["hu"], hu[None])
        fill(request.inputs["spacing_mm"], [spacing_mm], DT_DOUBLE)
        fill(request.inputs["center_index"], [center_index], DT_DOUBLE)
    return request


def open_channel(target, *files):
    if not any(files):
        return grpc.insecure_channel(target, OPTIONS)
    contents = [Path(file).read_bytes() if file else None for file in files]
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(*contents), OPTIONS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--model", default="ggn")
    parser.add_argument("--spacing", nargs=3, type=float, metavar="MM")
    parser.add_argument("--center", nargs=3, type=float, metavar="INDEX")
    parser.add_argument("--axes", type=three_axes, default="SPL")
    parser.add_argument("--tls-ca", metavar="PEM", help="authorities whose servers are trusted; encrypts")
    parser.add_argument("--tls-cert", metavar="PEM", help="this client's certificate, if the server asks for one")
    parser.add_argument("--tls-key", metavar="PEM", help="the key of --tls-cert")
    args = parser.parse_args()
    hu, spacing_mm, center_index = np.load(args.file), args.spacing, args.center
    if spacing_mm is not None:
        hu, spacing_mm, center_index = to_spl(hu, spacing_mm, center_index, args.axes)
    request = make_request(args.model, hu, spacing_mm, center_index)
    with open_channel(args.target, args.tls_ca, args.tls_key, args.tls_cert) as channel:
        try:
            response = services.PredictionServiceStub(channel).Predict(request, timeout=SECONDS)
        except grpc.RpcError as error:
            sys.exit(f"error: {error.details()}")
    outputs = response.outputs
    names = [name.decode() for name in outputs["class_names"].string_val]
    prediction = {
        "version": response.model_spec.version.value,
        "probabilities": dict(zip(names, outputs["probabilities"].float_val, strict=True)),
        "nodule_voxels": int((np.array(outputs["mask"].float_val) > 0.5).sum()),
        "warning": "\n".join(line.decode() for line in outputs["warning"].string_val),
    }
    print(json.dumps(prediction))


main()
