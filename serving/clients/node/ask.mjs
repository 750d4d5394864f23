// Predicts one nodule with a model server, TensorFlow Serving or `ggn-tf serve`.
//
//   npm ci
//   node ask.mjs 127.0.0.1:8500 region.raw --shape 40,64,64 --spacing 1.25,0.7,0.7 --center 20,31.5,32
//   node ask.mjs 127.0.0.1:8500 patch.raw
//
// FILE contains little-endian float32 Hounsfield units, x fastest, then y, then z. With --shape it is a region of the CT,
// from which the server cuts the patch (signature `roi`); without, a patch of 32 x 32 x 32 that is already cut
// (`serving_default`). Triples are in the order z,y,x. Prints one JSON document.

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

function request(model, file, { shape, spacing, center }) {
  const bytes = readFileSync(file);
  const size = shape ?? PATCH;
  const count = size.reduce((a, b) => a * b);
  if (bytes.length !== 4 * count) throw new Error(`${file} has ${bytes.length} bytes, ${size} needs ${4 * count}`);
  const hu = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  if (!shape) {
    const inputs = { hu: tensor([1, ...size, 1], hu) };
    return { model_spec: { name: model, signature_name: "serving_default" }, inputs };
  }
  const inputs = {
    hu: tensor([1, ...size], hu),
    spacing_mm: tensor([1, 3], new Float64Array(spacing)),
    center_index: tensor([1, 3], new Float64Array(center)),
  };
  return { model_spec: { name: model, signature_name: "roi" }, inputs };
}

function predict(target, message) {
  const client = new PredictionService(target, grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": LARGEST_MESSAGE,
    "grpc.max_send_message_length": LARGEST_MESSAGE,
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
  },
});
const [target, file] = positionals;
const triple = (text) => text?.split(",").map(Number);
try {
  const { shape, spacing, center } = values;
  const region = { shape: triple(shape), spacing: triple(spacing), center: triple(center) };
  const { model_spec, outputs } = await predict(target, request(values.model, file, region));
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
