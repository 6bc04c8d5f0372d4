"use strict";
// kernel.wat, compiled and in base 64 (the command stands there), in a memory that holds all arrays of a run.

const KERNEL =
  "AGFzbQEAAAABCgFgBn9/f39/fwACEAEEcGFnZQZtZW1vcnkCAAEDAgEABwsBB2FkZFJvd3MAAArmAgHjAgIEewZ/IAAgAWohDgJAA0AgAkEESA0B" +
  "IAT9CQIAIQYgBP0JAgQhByAE/QkCCCEIIAT9CQIMIQkgBSADKAIAIAFsaiEKIAUgAygCBCABbGohCyAFIAMoAgggAWxqIQwgBSADKAIMIAFsaiEN" +
  "IAAhDwNAIA8gD/0ABAAgBiAK/QAEAP3mASAHIAv9AAQA/eYB/eQB/eQBIAggDP0ABAD95gEgCSAN/QAEAP3mAf3kAf3kAf0LBAAgCkEQaiEKIAtB" +
  "EGohCyAMQRBqIQwgDUEQaiENIA9BEGoiDyAOSQ0ACyADQRBqIQMgBEEQaiEEIAJBBGshAgwACwsCQANAIAJFDQEgBP0JAgAhBiAFIAMoAgAgAWxq" +
  "IQogACEPA0AgDyAP/QAEACAGIAr9AAQA/eYB/eQB/QsEACAKQRBqIQogD0EQaiIPIA5JDQALIANBBGohAyAEQQRqIQQgAkEBayECDAALCws=";

const ROOM = 4096; // numbers that one sum may have
const padded = (row) => 4 * Math.ceil(row / 4);

class Kernel {
  /** Room for `floats` numbers in all its arrays. */
  constructor(floats) {
    this.memory = new WebAssembly.Memory({ initial: Math.ceil((floats + 2 * ROOM) / 16384) });
    const module = new WebAssembly.Module(Uint8Array.from(atob(KERNEL), (letter) => letter.charCodeAt(0)));
    this.sum = new WebAssembly.Instance(module, { page: { memory: this.memory } }).exports.addRows;
    this.used = 0;
    this.index = new Int32Array(this.memory.buffer, this.array(ROOM).byteOffset, ROOM);
    this.value = this.array(ROOM);
  }

  /** A new Float32Array in the kernel's memory, with 4 numbers behind it into which sums may reach. */
  array(length) {
    const array = new Float32Array(this.memory.buffer, this.used, length);
    this.used += 16 * Math.ceil(length / 4 + 1);
    return array;
  }

  /** A matrix whose rows have `row` numbers, each padded with 0 to a multiple of 4. */
  matrix(values, row) {
    const rows = values.length / row;
    const out = this.array(rows * padded(row));
    for (let k = 0; k < rows; k++) out.set(values.subarray(k * row, (k + 1) * row), k * padded(row));
    return out;
  }

  /** Chooses for addRows the numbers of x[from .. from + count) that are not 0. */
  gather(x, from, count) {
    const { index, value } = this;
    let found = 0;
    for (let k = 0; k < count; k++) {
      const number = x[from + k];
      if (number !== 0) {
        index[found] = k;
        value[found++] = number;
      }
    }
    this.found = found;
  }

  /** out[at ..] += Σ number · row over the chosen numbers; their rows stand in `matrix` from row `first` on, each
   *  `row` long, a multiple of 4. */
  addRows(out, at, row, matrix, first) {
    const from = matrix.byteOffset + 4 * row * first;
    const { index, value } = this;
    this.sum(out.byteOffset + 4 * at, 4 * row, this.found, index.byteOffset, value.byteOffset, from);
  }
}
