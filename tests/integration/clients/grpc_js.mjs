// Sends calls with @grpc/grpc-js: a JSON list of {service, method, request} on stdin, responses on stdout.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [target, protos, modules] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const options = { includeDirs: [protos], keepCase: true, longs: Number, enums: String };
const serving = grpc.loadPackageDefinition(loader.loadSync("tensorflow_serving.proto", options)).tensorflow.serving;

const send = ({ service, method, request }) =>
  new Promise((resolve) => {
    const client = new serving[service](target, grpc.credentials.createInsecure());
    if (request.model_spec?.version) request.model_spec.version = { value: request.model_spec.version };
    client[method](request, { deadline: new Date(Date.now() + 60000) }, (error, response) => {
      client.close();
      resolve(error ? { code: grpc.status[error.code], message: error.details } : { code: "OK", message: response });
    });
  });

const responses = [];
for (const call of JSON.parse(readFileSync(0))) responses.push(await send(call));
const plain = (key, value) => (value?.type === "Buffer" ? Buffer.from(value.data).toString() : value);
console.log(JSON.stringify(responses, plain));
