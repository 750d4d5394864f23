// Predicts one nodule with a model server, TensorFlow Serving or `ggn-tf serve`.
//
//   npm ci
//   node ask.mjs 127.0.0.1:8500 region.raw --shape 40,64,64 --spacing 1.25,0.7,0.7 --center 20,31.5,32 --axes IPL
//   node ask.mjs 127.0.0.1:8500 patch.raw
//
// FILE contains little-endian float32 Hounsfield units, the last axis fastest. With --shape it is a region of the CT, from
// which the server cuts the patch (signature `roi`), and --axes names the directions in which its three axes run, in the
// order of the triples: IPL for slices from head to feet. Without, it is a patch of 32 x 32 x 32 that is already cut
// (`serving_default`), axes S, P, L. Prints one JSON document.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const PATCH = [32, 32, 32];
const LARGEST_MESSAGE = 64 * 1024 * 1024; // gRPC's own limit is 4 MiB
const SECONDS = 30;

const protos = protoLoader.loadSync("tensorflow_serving.proto", {
  includeDirs: [process.env.GGN_TF_PROTO ?? fileURLToPath(new URL("../proto", import.meta.url))],
  keepCase: true,
  longs: Number,
});
const { PredictionService } = grpc.loadPackageDefinition(protos).tensorflow.serving;

const tensor = (shape, numbers) => ({
  dtype: numbers instanceof Float64Array ? "DT_DOUBLE" : "DT_FLOAT",
  tensor_shape: { dim: shape.map((size) => ({ size })) },
  tensor_content: Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength),
});

const AXES = { S: 0, I: 0, P: 1, A: 1, L: 2, R: 2 };

// Brings a region into the order that the model takes: axes towards superior, posterior and left.
function toSpl(hu, { shape, spacing, center, axes }) {
  const order = [0, 1, 2].map((axis) => [...axes].findIndex((letter) => AXES[letter] === axis));
  if (axes.length !== 3 || order.includes(-1)) throw new Error(`--axes ${axes}: one each of S or I, P or A, and L or R`);
  const turned = order.map((at, axis) => axes[at] !== "SPL"[axis]);
  const size = order.map((at) => shape[at]);
  const strides = [shape[1] * shape[2], shape[2], 1];
  const at = (axis, index) => strides[order[axis]] * (turned[axis] ? size[axis] - 1 - index : index);
  const ordered = new Float32Array(hu.length);
  let next = 0;
  for (let s = 0; s < size[0]; s++)
    for (let p = 0; p < size[1]; p++) for (let l = 0; l < size[2]; l++) ordered[next++] = hu[at(0, s) + at(1, p) + at(2, l)];
  return {
    hu: ordered,
    shape: size,
    spacing: order.map((from) => spacing[from]),
    center: order.map((from, axis) => (turned[axis] ? size[axis] - 1 - center[from] : center[from])),
  };
}

function request(model, file, region) {
  const bytes = readFileSync(file);
  const size = region.shape ?? PATCH;
  const count = size.reduce((a, b) => a * b);
  if (bytes.length !== 4 * count) throw new Error(`${file} has ${bytes.length} bytes, ${size} needs ${4 * count}`);
  const hu = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  if (!region.shape) {
    const inputs = { hu: tensor([1, ...size, 1], hu) };
    return { model_spec: { name: model, signature_name: "serving_default" }, inputs };
  }
  const ordered = toSpl(hu, region);
  const inputs = {
    hu: tensor([1, ...ordered.shape], ordered.hu),
    spacing_mm: tensor([1, 3], new Float64Array(ordered.spacing)),
    center_index: tensor([1, 3], new Float64Array(ordered.center)),
  };
  return { model_spec: { name: model, signature_name: "roi" }, inputs };
}

function credentials(...files) {
  if (!files.some(Boolean)) return grpc.credentials.createInsecure();
  return grpc.credentials.createSsl(...files.map((file) => (file ? readFileSync(file) : null)));
}

function predict(target, message, credentials) {
  const client = new PredictionService(target, credentials, {
    "grpc.max_receive_message_length": LARGEST_MESSAGE,
    "grpc.max_send_message_length": LARGEST_MESSAGE,
    "grpc.enable_http_proxy": 0, // those of the environment
  });
  const deadline = new Date(Date.now() + 1000 * SECONDS);
  return new Promise((resolve, reject) =>
    client.Predict(message, { deadline }, (error, response) => (error ? reject(error) : resolve(response))),
  ).finally(() => client.close());
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: "string", default: "ggn" },
    shape: { type: "string" },
    spacing: { type: "string" },
    center: { type: "string" },
    axes: { type: "string", default: "SPL" },
    "tls-ca": { type: "string" },
    "tls-key": { type: "string" },
    "tls-cert": { type: "string" },
  },
});
const [target, file] = positionals;
const triple = (text) => text?.split(",").map(Number);
try {
  const { shape, spacing, center, axes } = values;
  const region = { shape: triple(shape), spacing: triple(spacing), center: triple(center), axes };
  const tls = credentials(values["tls-ca"], values["tls-key"], values["tls-cert"]);
  const { model_spec, outputs } = await predict(target, request(values.model, file, region), tls);
  const names = outputs.class_names.string_val.map(String);
  const probabilities = outputs.probabilities.float_val;
  const prediction = {
    version: model_spec.version.value,
    probabilities: Object.fromEntries(names.map((name, index) => [name, probabilities[index]])),
    nodule_voxels: outputs.mask.float_val.filter((value) => value > 0.5).length,
    warning: (outputs.warning?.string_val ?? []).map(String).join("\n"),
  };
  console.log(JSON.stringify(prediction));
} catch (error) {
  console.error(`error: ${error.details ?? error.message}`);
  process.exitCode = 1;
}
