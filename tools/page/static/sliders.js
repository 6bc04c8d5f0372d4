"use strict";
// z as a row of bars that are dragged, or drawn across with one stroke, or moved with the arrow keys.

const Z_RANGE = 3; // a bar's end; z is about N(0, 1)

class Sliders {
  /** `changed([[index, value], ...])` is called when the user moves bars. */
  constructor(canvas, label, changed) {
    Object.assign(this, { canvas, label, changed, z: new Float32Array(0), at: -1, last: null });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.stroke(event);
    });
    canvas.addEventListener("pointermove", (event) =>
      canvas.hasPointerCapture(event.pointerId) ? this.stroke(event) : this.point(event),
    );
    canvas.addEventListener("pointerup", () => canvas.blur()); // then the arrows are the dream's again
    canvas.addEventListener("pointerleave", () => this.choose(document.activeElement === canvas ? this.at : -1));
    canvas.addEventListener("focus", () => this.choose(Math.max(0, this.at)));
    canvas.addEventListener("blur", () => this.choose(-1));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** How many rows, and bars in a row. */
  get grid() {
    const rows = Math.max(1, Math.ceil(this.z.length / 32));
    return [rows, Math.ceil(this.z.length / rows)];
  }

  /** The bar under a pointer, and the value at its height. */
  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const [rows, columns] = this.grid;
    const inside = (share) => Math.min(0.9999, Math.max(0, share));
    const column = Math.floor(inside((event.clientX - box.left) / box.width) * columns);
    const down = inside((event.clientY - box.top) / box.height) * rows;
    const row = this.held ?? Math.floor(down);
    const value = (1 - 2 * Math.min(1, Math.max(0, down - row))) * Z_RANGE;
    return { row, index: Math.min(this.z.length - 1, row * columns + column), value };
  }

  /** Moves the bar under the pointer, and those that a fast stroke has passed since the event before. */
  stroke(event) {
    const begins = event.type === "pointerdown";
    if (begins) this.held = null;
    const { row, index, value } = this.under(event);
    this.held = row; // a stroke stays in its row
    this.at = index;
    const from = begins || !this.last ? { index, value } : this.last;
    this.last = { index, value };
    const passed = Math.max(1, Math.abs(index - from.index));
    const moves = [];
    for (let k = 1; k <= passed; k++) {
      const height = from.value + ((value - from.value) * k) / passed;
      const bar = from.index + Math.sign(index - from.index) * k;
      moves.push([bar, Math.abs(height) < 0.08 ? 0 : height]);
    }
    this.changed(moves);
  }

  point(event) {
    this.held = this.last = null;
    this.choose(this.under(event).index);
  }

  key(event) {
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const up = { ArrowUp: 0.1, ArrowDown: -0.1 }[event.key];
    if (across) this.choose((this.at + across + this.z.length) % this.z.length);
    else if (up) this.changed([[this.at, Math.max(-Z_RANGE, Math.min(Z_RANGE, this.z[this.at] + up))]]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  choose(index) {
    this.at = index;
    this.draw(this.z);
  }

  draw(z) {
    this.z = z;
    const chosen = this.at >= 0 && this.at < z.length;
    this.label.textContent = chosen ? `z${this.at + 1} = ${z[this.at].toFixed(2)}` : "";
    this.canvas.setAttribute("aria-valuetext", this.label.textContent);
    if (!this.canvas.clientWidth) return;
    const { context, width, height } = sized(this.canvas);
    const [rows, columns] = this.grid;
    const [wide, high] = [width / columns, height / rows];
    const tint = color("--z");
    const line = color("--line");
    for (let k = 0; k < z.length; k++) {
      const x = (k % columns) * wide;
      const middle = (Math.floor(k / columns) + 0.5) * high;
      const size = (Math.min(Z_RANGE, Math.abs(z[k])) / Z_RANGE) * (high / 2 - 3);
      context.fillStyle = line;
      context.globalAlpha = k === this.at ? 1 : 0.35;
      context.fillRect(x + 1, middle - high / 2 + 2, wide - 2, high - 4);
      context.globalAlpha = k === this.at ? 1 : 0.8;
      context.fillStyle = tint;
      context.fillRect(x + 1, z[k] > 0 ? middle - size : middle, wide - 2, Math.max(1, size));
      context.globalAlpha = 1;
    }
  }
}
