"use strict";
// A dream: M in the place of the game (doom_rnn/dream.py). Runs in a browser and in Node.

/** Random numbers from a seed: uniform ones in [0, 1) by mulberry32, normal ones by Box and Muller. */
class Draws {
  constructor(seed) {
    this.state = seed >>> 0;
  }

  uniform() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  normal() {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }
}

class Dream {
  constructor(run, arrays) {
    this.run = run;
    this.arrays = arrays;
    const weights = Object.values(arrays).reduce((sum, array) => sum + array.length, 0);
    const kernel = new Kernel(1.2 * weights + 500_000); // with the padding of rows, and what the layers give
    this.memory = new MemoryModel(run, arrays, kernel);
    this.decoder = new Decoder(arrays, kernel);
    this.controller = run.parameters ? new Controller(run) : null;
    this.z = new Float32Array(run.z_size);
  }

  /** Begins at z, or where one of the first frames is, sampled. Where the run dreams with dropout, the dream keeps its
   *  masks for all its steps. */
  start(draws, z = null, masks = this.run.dropout ? this.drawMasks(draws) : null) {
    this.draws = draws;
    this.memory.reset();
    if (masks) this.memory.drop(masks);
    this.steps = 0;
    this.ended = null; // or "death", or "time"
    this.uncertainty = 0;
    this.end = this.memory.endHead ? 0 : null; // predicted probability of it
    if (z) this.z.set(z);
    else this.sampleStart();
  }

  /** Dropout masks of z and h for each of M's gates, as doom_rnn.dream.Randomness.dropout, but of the page's draws. */
  drawMasks(draws) {
    const { dropout, z_size, units } = this.run;
    return Float32Array.from({ length: 4 * (z_size + units) }, () => (draws.uniform() < dropout ? 0 : 1 / (1 - dropout)));
  }

  sampleStart() {
    const size = this.run.z_size;
    const { start_mu, start_logvar } = this.arrays;
    const at = Math.floor(this.draws.uniform() * (start_mu.length / size)) * size;
    for (let d = 0; d < size; d++)
      this.z[d] = start_mu[at + d] + Math.exp(start_logvar[at + d] / 2) * this.draws.normal();
  }

  /** What C would do now. */
  agentAction() {
    return this.controller.act(this.z, this.memory.c, this.memory.h);
  }

  /** M dreams on by one step. The dream ends where the probability of its end passes one half. */
  step(action, tau) {
    const { memory, run } = this;
    memory.step(this.z, action);
    memory.sample(tau, this.draws, this.z);
    this.steps++;
    this.uncertainty = memory.uncertainty(tau, run.z_size);
    this.end = memory.endProbability;
    if (this.end > 0.5) this.ended = "death";
    else if (this.steps >= run.max_frames) this.ended = "time";
  }

  /** The frame of z now. */
  frame() {
    return this.decoder.decode(this.z);
  }
}
