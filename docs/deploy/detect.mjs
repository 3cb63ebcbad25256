// Detections of one image with onnxruntime-web under Node.js, or in a browser with the same calls:
//   npm install --ignore-scripts onnxruntime-web
//   node detect.mjs model.onnx WIDTH HEIGHT image.rgb
// image.rgb holds the raw pixels: HEIGHT rows of WIDTH times three bytes, red, green, blue.
// Prints one line of JSON per detection, best first.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const [model, widthText, heightText, file] = process.argv.slice(2);
const [width, height] = [Number(widthText), Number(heightText)];
const pixels = readFileSync(file);
if (pixels.length !== width * height * 3) {
  throw new Error(`${file} has ${pixels.length} bytes, not ${width} x ${height} x 3`);
}

// onnxruntime-web does not show a model's metadata, so it is read from the file: ONNX is a protocol
// buffer, and the description is the JSON text after the key "ctnet".
function description(bytes) {
  const start = bytes.lastIndexOf('{"format": "ctnet export');
  if (start < 0) throw new Error("the model was not exported by ctnet");
  let [depth, quoted] = [0, false];
  for (let at = start; at < bytes.length; at++) {
    const letter = String.fromCharCode(bytes[at]);
    if (quoted && letter === "\\") at++;
    else if (letter === '"') quoted = !quoted;
    else if (!quoted && letter === "{") depth++;
    else if (!quoted && letter === "}" && --depth === 0) {
      return JSON.parse(bytes.subarray(start, at + 1).toString("utf8"));
    }
  }
  throw new Error("the model's description is cut short");
}

const bytes = readFileSync(model);
const about = description(bytes);
const up = (side) => Math.ceil(side / about.divisor) * about.divisor;
const [wide, high] = about.letterbox ? [width, height] : about.fixed ?? [up(width), up(height)];

// Black to the right and below, up to the sides that the network takes.
const input = new Uint8Array(wide * high * 3);
for (let y = 0; y < Math.min(height, high); y++) {
  const row = pixels.subarray(y * width * 3, (y * width + Math.min(width, wide)) * 3);
  input.set(row, y * wide * 3);
}

ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(bytes);
const found = await session.run({ images: new ort.Tensor("uint8", input, [1, high, wide, 3]) });
const names = about.description.categories.map((category) => category.name);
const least = names.map((name) => about.operating_points?.classes[name].score ?? 0.3);
for (let row = 0; row < found.scores.dims[1]; row++) {
  if (found.scores.data[row] <= least[Number(found.labels.data[row])]) continue;
  const values = {};
  for (const { name } of about.columns) {
    const { data, dims } = found[name];
    const size = data.length / dims[1];
    values[name] = Array.from(data.subarray(row * size, (row + 1) * size), Number);
  }
  console.log(JSON.stringify({ category: names[values.labels[0]], ...values }));
}
