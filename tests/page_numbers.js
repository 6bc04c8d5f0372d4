// What the page's arithmetic makes of given numbers: node tests/page_numbers.js SITE NAME < questions > answers (JSON).
"use strict";
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const [site, name] = process.argv.slice(2);
let run = null;
globalThis.provideRun = (value) => (run = value);
for (const file of ["kernel.js", "model.js", "dream.js", `runs/${name}.js`])
  vm.runInThisContext(fs.readFileSync(path.join(site, file), "utf8"), { filename: file });
const { Draws, Dream, unpackArrays } = vm.runInThisContext("({ Draws, Dream, unpackArrays })");

/** Draws that were made elsewhere: step after step, Z of each kind. */
class Given {
  constructor({ uniform, noise }) {
    Object.assign(this, { u: uniform.flat(), n: noise.flat(), i: 0, j: 0 });
  }
  uniform() {
    return this.u[this.i++];
  }
  normal() {
    return this.n[this.j++];
  }
}

(async () => {
  const ask = JSON.parse(fs.readFileSync(0, "utf8"));
  const arrays = await unpackArrays(run);
  const dream = new Dream(run, arrays);
  const answer = { weights: {} };
  for (const key of ["kernel", "recurrent", "bias", "head", "headb"]) answer.weights[key] = [...arrays[key]];
  answer.frames = ask.z.slice(0, 20).map((z) => {
    const pixels = new Uint8ClampedArray(64 * 64 * 4);
    paintOf(dream.decoder.decode(Float32Array.from(z)), pixels);
    return [...pixels].filter((_, k) => k % 4 < 3);
  });
  if (ask.dropout) {
    answer.masks = [...dream.drawMasks(new Draws(7))];
    dream.memory.drop(answer.masks); // the given ones take their place
    dream.memory.drop(ask.dropout);
  }
  dream.memory.reset(); // M along given z and actions
  answer.states = ask.z.map((z, t) => {
    const action = dream.controller.act(Float32Array.from(z), dream.memory.c, dream.memory.h);
    dream.memory.step(Float32Array.from(z), ask.action[t]);
    const uncertainty = dream.memory.uncertainty(ask.tau, run.z_size);
    return { output: [...dream.memory.output], h: [...dream.memory.h], c: [...dream.memory.c], action, uncertainty };
  });
  dream.start(new Given(ask), Float32Array.from(ask.z[0]), ask.dropout); // a dream of its own, driven by C
  answer.dream = [];
  for (let t = 0; t < ask.z.length; t++) {
    dream.step(dream.agentAction(), ask.tau);
    answer.dream.push({ z: [...dream.z], end: dream.end });
  }
  process.stdout.write(JSON.stringify(answer));
})();

function paintOf(...args) {
  return vm.runInThisContext("paint")(...args);
}
