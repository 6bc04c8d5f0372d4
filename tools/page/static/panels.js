"use strict";
// What stands next to the dream: the film, the strip of real frames, and the scores.

const FRAME = 64 * 64 * 3;

/** Draws RGB bytes or a frame in 0..1 on a canvas of 64 x 64. */
function show(canvas, frame) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(64, 64);
  if (frame instanceof Float32Array) paint(frame, image.data);
  else paint(Float32Array.from(frame, (value) => value / 255), image.data);
  context.putImageData(image, 0, 0);
}

/** Draws the frame of a step from a film's sheet; the film repeats. */
function showFilm(canvas, sheet, { steps, every, columns }, step) {
  const k = Math.floor((step % steps) / every);
  canvas.getContext("2d").drawImage(sheet, 64 * (k % columns), 64 * Math.floor(k / columns), 64, 64, 0, 0, 64, 64);
}

/** V's squared error of a reconstruction, summed over the pixels, as in its loss. */
function squaredError(frame, reconstruction) {
  let sum = 0;
  for (let k = 0; k < FRAME; k++) sum += (frame[k] / 255 - reconstruction[k]) ** 2;
  return sum;
}

/** Fills the strip: real frames over their reconstructions; `choose(k)` is called when one is clicked. */
function fillStrip(strip, arrays, decoder, size, choose) {
  strip.replaceChildren();
  for (let k = 0; k < arrays.frames.length / FRAME; k++) {
    const pair = document.createElement("canvas");
    Object.assign(pair, { width: 64, height: 128 });
    const half = document.createElement("canvas");
    half.width = half.height = 64;
    show(half, arrays.frames.subarray(k * FRAME, (k + 1) * FRAME));
    pair.getContext("2d").drawImage(half, 0, 0);
    show(half, decoder.decode(arrays.z.subarray(k * size, (k + 1) * size)));
    pair.getContext("2d").drawImage(half, 0, 64);
    const button = document.createElement("button");
    button.setAttribute("aria-label", `Real frame ${k + 1} and its reconstruction`);
    button.append(pair);
    button.addEventListener("click", () => choose(k));
    strip.append(button);
  }
}

const SCORE_WHERE = { dream: "in the dream", real: "in the game" };
const SCORE_WHO = { ours: "C", paper: "paper" };

/** The bars of the scores, and of this dream if steps are what counts; returns what moves that one. */
function fillScores(list, run) {
  list.replaceChildren();
  const ends = run.scores.map(({ mean, std }) => mean + (std ?? 0));
  const top = run.survival ? run.max_frames : Math.max(1, ...ends);
  const rows = run.scores.map((score) => ({ ...score, label: `${SCORE_WHO[score.by]}, ${SCORE_WHERE[score.where]}` }));
  if (run.survival || run.end_head) rows.unshift({ by: "you", label: run.survival ? "this dream" : "steps of this dream", mean: 0, text: "0" });
  let own = null;
  for (const { by, label, mean, std, text } of rows) {
    const row = document.createElement("li");
    row.className = by;
    row.innerHTML = '<span></span><div class="track"><div class="fill"></div></div><span class="number"></span>';
    const [name, track, number] = row.children;
    name.textContent = label;
    const most = by === "you" ? run.max_frames : top;
    const share = (value) => `${(100 * Math.min(1, Math.max(0, value / most))).toFixed(2)}%`;
    const set = (value, text) => {
      track.firstChild.style.width = share(value);
      number.textContent = text;
    };
    set(mean, text);
    if (std) {
      const whisker = document.createElement("div");
      whisker.className = "whisker";
      whisker.style.left = share(mean - std);
      whisker.style.right = `calc(100% - ${share(mean + std)})`;
      track.append(whisker);
    }
    if (by === "you") own = (steps) => set(steps, String(steps));
    list.append(row);
  }
  return own ?? (() => {});
}
