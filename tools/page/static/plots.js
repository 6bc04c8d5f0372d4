"use strict";
// Small drawings: a canvas as large as it is shown, and a curve of the last steps.

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

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

/** A live curve of the last `length` values. */
class Curve {
  constructor(canvas, { tint, top = null, mark = null, length = 240 }) {
    Object.assign(this, { canvas, tint, top, mark, length, values: [] });
  }

  clear() {
    this.values = [];
    this.draw();
  }

  push(value) {
    this.values.push(value);
    if (this.values.length > this.length) this.values.shift();
    this.draw();
  }

  draw() {
    if (!this.canvas.clientWidth) return; // behind another tab
    const { context, width, height } = sized(this.canvas);
    const top = this.top ?? 1.15 * Math.max(0.2, ...this.values);
    const x = (k) => ((k + this.length - this.values.length) / (this.length - 1)) * width;
    const y = (value) => height - 3 - (value / top) * (height - 6);
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
