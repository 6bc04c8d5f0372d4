"use strict";
// V's decoder, M and C on Float32Arrays: the arithmetic of vae/model.py, rnn/model.py, rnn/mdn.py and
// controller/policy.py for one agent, on the sums of kernel.js. Runs in a browser and in Node; knows nothing of pages.

// ---- Arrays from text (weights.py writes them) ----

const BASE85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

function bytesOfText(text, count) {
  const digit = new Uint8Array(128);
  for (let k = 0; k < 85; k++) digit[BASE85.charCodeAt(k)] = k;
  const bytes = new Uint8Array((text.length / 5) * 4);
  const view = new DataView(bytes.buffer);
  for (let k = 0, at = 0; k < text.length; at += 4) {
    let value = 0;
    for (let n = 0; n < 5; n++) value = value * 85 + digit[text.charCodeAt(k++)];
    view.setUint32(at, value);
  }
  return bytes.subarray(0, count);
}

/** The float16 whose bits are high * 256 + low. */
function half(high, low) {
  const exponent = (high >> 2) & 31;
  const fraction = ((high & 3) << 8) | low;
  const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
  return high & 128 ? -size : size;
}

/** {name: Float32Array or Uint8Array} of a run's table, text and number of bytes. */
async function unpackArrays(run) {
  const packed = new Blob([bytesOfText(run.text, run.bytes)]);
  const stream = packed.stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  const sizes = run.arrays.map(([, shape]) => shape.reduce((a, b) => a * b, 1));
  const halves = run.arrays.reduce((sum, [, , type], k) => sum + (type === "f2" ? sizes[k] : 0), 0);
  const table = Float32Array.from({ length: 65536 }, (_, bits) => half(bits >> 8, bits & 255));
  const arrays = {};
  let at = 0;
  run.arrays.forEach(([name, , type], k) => {
    const size = sizes[k];
    if (type === "f2") {
      const values = (arrays[name] = new Float32Array(size));
      for (let n = 0; n < size; n++) values[n] = table[(raw[at + n] << 8) | raw[halves + at + n]];
    } else arrays[name] = raw.slice(halves + at, halves + at + size); // every half before it has a second byte
    at += size;
  });
  for (const name of Object.keys(arrays).filter((name) => name.endsWith("_rest"))) {
    const values = arrays[name.slice(0, -"_rest".length)];
    arrays[name].forEach((rest, n) => (values[n] += rest)); // what float16 has left of it
    delete arrays[name];
  }
  return arrays;
}

// ---- Sums ----

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

// ---- V ----

/** V's decoder: z -> a frame. A relu leaves half of the numbers 0, which cost nothing. */
class Decoder {
  constructor(arrays, kernel) {
    this.kernel = kernel;
    this.bias = arrays.v0b;
    this.matrix = kernel.matrix(arrays.v0, this.bias.length);
    this.pixels = kernel.array(this.bias.length); // 5 x 5 x 128
    let size = 5;
    let inputs = this.pixels.length / (size * size);
    this.layers = [1, 2, 3].map((number) => {
      const bias = arrays[`v${number}b`];
      const outputs = bias.length;
      const taps = Math.sqrt(arrays[`v${number}`].length / inputs / outputs);
      const width = 2 * size - 2 + taps;
      const matrix = kernel.matrix(arrays[`v${number}`], taps * outputs);
      const out = kernel.array(width * width * outputs);
      const layer = { kernel, matrix, bias, size, inputs, outputs, taps, width, out };
      [size, inputs] = [width, outputs];
      return layer;
    });
  }

  /** z (Z) -> 64 x 64 x 3 numbers in 0..1, in an array that the next call overwrites. */
  decode(z) {
    const { kernel, matrix, bias, pixels, layers } = this;
    pixels.set(bias);
    kernel.gather(z, 0, z.length);
    kernel.addRows(pixels, 0, bias.length, matrix, 0);
    const last = layers[layers.length - 1];
    let x = relu(pixels);
    for (const layer of layers) x = layer === last ? transposed(layer, x) : relu(transposed(layer, x));
    for (let k = 0; k < x.length; k++) x[k] = sigmoid(x[k]);
    return x;
  }
}

function relu(x) {
  for (let k = 0; k < x.length; k++) if (x[k] < 0) x[k] = 0;
  return x;
}

/** A transposed convolution of stride 2: every input adds a row of its kernel to `taps` rows of the output. */
function transposed({ kernel, matrix, bias, size, inputs, outputs, taps, width, out }, x) {
  for (let k = 0; k < out.length; k += outputs) out.set(bias, k);
  const run = padded(taps * outputs);
  for (let pixel = 0; pixel < size * size; pixel++) {
    kernel.gather(x, pixel * inputs, inputs);
    const row = 2 * Math.floor(pixel / size);
    const column = 2 * (pixel % size);
    for (let tap = 0; tap < taps; tap++)
      kernel.addRows(out, ((row + tap) * width + column) * outputs, run, matrix, tap * inputs);
  }
  return out;
}

/** A frame in 0..1 into the RGBA bytes of an ImageData, which round by themselves. */
function paint(frame, pixels) {
  for (let k = 0, at = 0; k < frame.length; k += 3, at += 4) {
    for (let n = 0; n < 3; n++) pixels[at + n] = frame[k + n] * 255;
    pixels[at + 3] = 255;
  }
}

// ---- M ----

/** M: an LSTM with a mixture of Gaussians for each dimension of the next z, and perhaps a head for the end. */
class MemoryModel {
  constructor(run, arrays, kernel) {
    this.sums = kernel;
    this.units = run.units;
    this.mixtures = run.mixtures;
    this.endHead = run.end_head;
    this.heads = run.heads; // outputs before the mixture's: the end's logit, the reward
    this.kernel = kernel.matrix(arrays.kernel, 4 * run.units);
    this.recurrent = kernel.matrix(arrays.recurrent, 4 * run.units);
    this.head = kernel.matrix(arrays.head, arrays.headb.length);
    [this.bias, this.headBias] = [arrays.bias, arrays.headb];
    this.arrays = arrays;
    this.input = new Float32Array(arrays.kernel.length / (4 * run.units));
    this.gates = kernel.array(4 * run.units);
    this.output = kernel.array(arrays.headb.length);
    this.weights = new Float64Array(run.mixtures); // of one dimension's mixture
    this.reset();
  }

  reset() {
    this.h = new Float32Array(this.units);
    this.c = new Float32Array(this.units);
    this.first = true; // M is told which frame begins an episode, if it predicts its end
  }

  /** Dropout: gate g sees row k of (z, h) times masks[g * (Z + U) + k] from now on. */
  drop(masks) {
    const { units, arrays } = this;
    const size = masks.length / 4; // Z + U
    const weigh = (matrix, values, first, rows) => {
      for (let row = 0; row < rows; row++)
        for (let k = 0; k < 4 * units; k++)
          matrix[row * 4 * units + k] = values[row * 4 * units + k] * masks[Math.floor(k / units) * size + first + row];
    };
    weigh(this.kernel, arrays.kernel, 0, size - units);
    weigh(this.recurrent, arrays.recurrent, size - units, units);
  }

  /** One step on (z, action): this.h, this.c and this.output become the next. */
  step(z, action) {
    const { sums, units, gates, h, c, input, output } = this;
    input.set(z);
    input.set(action, z.length);
    if (this.endHead) input[input.length - 1] = this.first ? 1 : 0;
    this.first = false;
    gates.set(this.bias);
    sums.gather(input, 0, input.length);
    sums.addRows(gates, 0, gates.length, this.kernel, 0);
    sums.gather(h, 0, units);
    sums.addRows(gates, 0, gates.length, this.recurrent, 0);
    for (let k = 0; k < units; k++) {
      c[k] = sigmoid(gates[units + k]) * c[k] + sigmoid(gates[k]) * Math.tanh(gates[2 * units + k]);
      h[k] = sigmoid(gates[3 * units + k]) * Math.tanh(c[k]);
    }
    output.set(this.headBias);
    sums.gather(h, 0, units);
    sums.addRows(output, 0, padded(output.length), this.head, 0);
  }

  /** The predicted probability that the episode ends with the next frame; null if M has no head for it. */
  get endProbability() {
    return this.endHead ? sigmoid(this.output[0]) : null;
  }

  /** Where the mixture of dimension d stands in the output: its logmix; mean and logstd follow. */
  mixtureAt(d) {
    return this.heads + d * 3 * this.mixtures;
  }

  /** this.weights = softmax(logmix / tau) of dimension d. */
  weigh(d, tau) {
    const { output, weights, mixtures } = this;
    const at = this.mixtureAt(d);
    let top = -Infinity;
    let sum = 0;
    for (let k = 0; k < mixtures; k++) top = Math.max(top, output[at + k]);
    for (let k = 0; k < mixtures; k++) sum += weights[k] = Math.exp((output[at + k] - top) / tau);
    for (let k = 0; k < mixtures; k++) weights[k] /= sum;
  }

  /** Draws the next z at temperature tau into z; `draws` gives uniform() and normal(), all uniform ones first. */
  sample(tau, draws, z) {
    const { output, weights, mixtures } = this;
    const chosen = z.map(() => draws.uniform());
    for (let d = 0; d < z.length; d++) {
      this.weigh(d, tau);
      let component = 0;
      for (let below = weights[0]; component < mixtures - 1 && chosen[d] >= below; below += weights[component])
        component++;
      const at = this.mixtureAt(d) + mixtures + component;
      z[d] = output[at] + Math.exp(output[at + mixtures]) * Math.sqrt(tau) * draws.normal();
    }
  }

  /** The standard deviation of the mixture that sample draws from, averaged over the dimensions of z. */
  uncertainty(tau, dimensions) {
    const { output, weights, mixtures } = this;
    let total = 0;
    for (let d = 0; d < dimensions; d++) {
      this.weigh(d, tau);
      const at = this.mixtureAt(d) + mixtures;
      let mean = 0;
      let square = 0;
      for (let k = 0; k < mixtures; k++) {
        const center = output[at + k];
        mean += weights[k] * center;
        square += weights[k] * (center * center + tau * Math.exp(2 * output[at + mixtures + k]));
      }
      total += Math.sqrt(Math.max(0, square - mean * mean));
    }
    return total / dimensions;
  }
}

// ---- C ----

/** C: layers over z and what it sees of M's state. Its outputs go through tanh and are squashed to the ranges of the
 *  action, or the greatest of them is chosen. */
class Controller {
  constructor(run) {
    Object.assign(this, { actions: run.actions, choice: run.choice, inputs: [...run.inputs], layers: [] });
    let at = 0;
    for (const [inputs, outputs, biased] of run.layers) {
      const bias = biased ? run.parameters.slice(at, at + outputs) : new Array(outputs).fill(0);
      at += biased ? outputs : 0;
      this.layers.push({ bias, weights: run.parameters.slice(at, at + inputs * outputs) });
      at += inputs * outputs;
    }
  }

  /** The action for z and M's state from before it has seen z. */
  act(z, c, h) {
    const parts = { z, c, h };
    let x = this.inputs.flatMap((name) => [...parts[name]]);
    for (const [number, { bias, weights }] of this.layers.entries()) {
      if (number) x = x.map(Math.tanh);
      x = bias.map((sum, n) => x.reduce((total, v, k) => total + v * weights[k * bias.length + n], sum));
    }
    const chosen = x.indexOf(Math.max(...x));
    if (this.choice) return x.map((_, n) => (n === chosen ? 1 : 0));
    x = x.map(Math.tanh);
    return this.actions.map(({ scale, offset, low, high }, n) => Math.min(high, Math.max(low, scale * x[n] + offset)));
  }
}
