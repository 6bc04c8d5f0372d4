"use strict";
// Small drawings: a canvas as large as it is shown, and a curve of the last steps.

let colors = {}; // asked once a theme: asking makes the browser compute its styles

function color(name) {
  return (colors[name] ??= getComputedStyle(document.documentElement).getPropertyValue(name).trim());
}

/** The context of a canvas in the pixels of the screen, cleared, and its size in those of the page. */
function sized(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** A live curve of the last `length` values, in a range that is given or follows them; its ends are written there. */
class Curve {
  constructor(canvas, { tint, range = null, mark = null, length = 240 }) {
    Object.assign(this, { canvas, tint, range, mark, length, values: [] });
  }

  get ends() {
    if (this.range || !this.values.length) return this.range ?? [0, 1];
    const [low, high] = [Math.min(...this.values), Math.max(...this.values)];
    const room = Math.max(0.03, 0.2 * (high - low));
    return [Math.max(0, low - room), high + room];
  }

  clear() {
    this.values = [];
  }

  push(value) {
    this.values.push(value);
    if (this.values.length > this.length) this.values.shift();
  }

  draw() {
    if (!this.canvas.clientWidth) return; // behind another tab
    const { context, width, height } = sized(this.canvas);
    const [low, high] = this.ends;
    const x = (k) => ((k + this.length - this.values.length) / (this.length - 1)) * width;
    const y = (value) => height - 3 - ((value - low) / (high - low)) * (height - 6);
    if (this.mark !== null) {
      context.strokeStyle = color("--line");
      context.setLineDash([4, 4]);
      context.beginPath();
      context.moveTo(0, y(this.mark));
      context.lineTo(width, y(this.mark));
      context.stroke();
      context.setLineDash([]);
    }
    if (!this.values.length) return;
    context.fillStyle = color("--dim");
    context.font = "10px system-ui, sans-serif";
    if (!this.range) {
      context.fillText(high.toFixed(2), 5, 12);
      context.fillText(low.toFixed(2), 5, height - 5);
    }
    context.beginPath();
    this.values.forEach((value, k) => context.lineTo(x(k), y(value)));
    context.strokeStyle = color(this.tint);
    context.lineWidth = 1.6;
    context.lineJoin = "round";
    context.stroke();
    context.lineTo(width, height);
    context.lineTo(x(0), height);
    context.globalAlpha = 0.16;
    context.fillStyle = color(this.tint);
    context.fill();
    context.globalAlpha = 1;
  }
}
