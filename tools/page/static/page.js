"use strict";
// The page: which run, who acts, the clock, and what every control does.

const $ = (id) => document.getElementById(id);
const SYMBOL = { Left: "←", Right: "→", Up: "↑", Down: "↓" };
const state = {
  run: null, // its facts
  dream: null,
  arrays: null,
  film: null, // a sheet of the real episode's frames
  playing: false,
  agent: true, // C acts, not you
  tau: 1,
  look: -1, // the real frame that is looked at, or -1: the dream is
  waits: false, // the dream was playing when that began, and goes on after it
  yours: 0, // steps of this dream in which you acted
  best: 0, // your longest
  due: 0, // when the next step is
  times: [], // of the steps of the last second
};
const held = new Set(); // arrow keys
let action = [];
let tellSteps = () => {};
const curves = {
  spread: new Curve($("spread-plot"), { tint: "--m" }),
  end: new Curve($("end-plot"), { tint: "--end", range: [0, 1] }),
};
const sliders = new Sliders($("sliders"), $("picked"), moveLatent);

// ---- Runs ----

const provided = {};
/** Called by runs/NAME.js. */
function provideRun(run) {
  provided[run.name] = run;
}

function loadRun(name) {
  if (provided[name]) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `runs/${encodeURIComponent(name)}.js`;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`runs/${name}.js is missing next to this page`));
    document.body.append(script);
  });
}

let opening = 0; // how many runs were opened: of two that load at once the later counts

async function openRun(name) {
  const ticket = ++opening;
  state.playing = false;
  state.run = null;
  verdict("Falling asleep …", "", false);
  for (const button of $("runs").children) button.setAttribute("aria-pressed", button.dataset.name === name);
  try {
    await loadRun(name);
    const run = provided[name];
    if (typeof DecompressionStream === "undefined")
      throw new Error("This browser is too old for the page: it lacks DecompressionStream.");
    const arrays = (run.unpacked ??= await unpackArrays(run));
    const film = Object.assign(new Image(), { src: run.film.picture });
    await film.decode();
    if (ticket !== opening) return;
    state.arrays = arrays;
    state.film = film;
    state.dream = new Dream(run, state.arrays);
    state.run = run;
  } catch (error) {
    if (ticket !== opening) return;
    verdict("No dream", error.message, false);
    return;
  }
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  Object.assign(state, { agent: Boolean(state.dream.controller), tau: state.run.temperature, best: 0 });
  describe(state.run);
  makePads(state.run);
  fillStrip($("strip"), state.arrays, state.dream.decoder, state.run.z_size, look);
  tellSteps = fillScores($("bars"), state.run);
  restart();
  setPlaying(!matchMedia("(prefers-reduced-motion: reduce)").matches);
}

/** What the parts of the drawing are; "": all of it. */
const terms = ({ title, z_size, parameters }) => ({
  "": "V, the vision, turns a frame into the numbers z. M, the memory, predicts the next z. C, the controller, chooses the action. Touch a part to read more.",
  game: `Game: ${title}. It is not running. Left you see a film of it.`,
  V: "V, the vision, turns a frame into z. V can also draw the frame of a z: it has drawn the dream on the right.",
  z: `z: ${z_size} numbers, which are all that M and C see of a frame.`,
  M: "M, the memory, predicts the next z from z, the action and its own state h.",
  C: `C, the controller, chooses the action from z and h.${parameters ? ` It is small: ${parameters.length.toLocaleString("en")} numbers.` : ""}`,
  h: "h, the state of M, is what M remembers of the frames before.",
  action: "The action is what C does, or you. M is told the action, as the game would be.",
  dream: "The dreamed z: in a dream, M’s prediction takes the place of what V would see. So no game is needed.",
});

function explain(term = "") {
  $("term").textContent = terms(state.run)[term];
  for (const part of document.querySelectorAll(".term")) part.setAttribute("aria-pressed", part.dataset.term === term);
}

/** Where C has learned, and how well that serves it in the game. */
function story({ evolved_in_dream, scores, survival, easier, unit, parameters }) {
  if (!parameters) return "";
  if (!evolved_in_dream) return "C learned in the real game, not in this dream.";
  const [dream, real] = ["dream", "real"].map((where) => scores.find((score) => score.by === "ours" && score.where === where));
  if (!dream || !real) return "";
  const said = ({ mean }) => mean.toLocaleString("en", { maximumSignificantDigits: Math.abs(mean) < 1000 ? 3 : 4 }) + (survival ? " steps" : "");
  const does = survival ? "it survives" : `its ${unit} is`;
  const why = easier && dream.mean > real.mean ? ` The dream is easier, because ${easier}.` : "";
  return `C learned only inside this dream, where ${does} ${said(dream)}. In the real game ${does} ${said(real)}.${why}`;
}

/** The sentences that depend on the run. */
function describe(run) {
  const learned = run.evolved_in_dream ? ` C learned at ${run.temperature}.` : "";
  $("lead").textContent =
    `No game is running. Left: a film of the real game. Right: a dream. M, a network that has watched ${run.title}, ` +
    `predicts what comes next, and V draws it. ${run.goal}`;
  explain();
  $("story").textContent = story(run);
  for (const element of document.querySelectorAll(".z-size")) element.textContent = run.z_size;
  $("temperature").value = run.temperature;
  $("temperature-note").textContent =
    `How much chance is in the dream. Near 0 the likeliest always comes. Above 1 the dream is wilder than the game.${learned}`;
  $("end-section").hidden = !run.end_head;
  $("endless").hidden = run.end_head;
  $("endless").textContent =
    `M has learned no end of ${run.title}: this dream goes on for ${run.max_frames} steps, wherever you go.`;
  $(run.end_head ? "heat" : "memory").append($("short-training")); // where a phone has room
  $("short-training").hidden = !run.short_training;
  $("short-training").textContent = run.short_training;
  $("end-rule").textContent = "The dream ends when it passes one half.";
  curves.end.mark = 0.5;
  $("end-title").textContent = `Probability of ${run.end === "death" ? "dying" : run.end}`;
  for (const element of document.querySelectorAll(".end-name")) element.textContent = run.end;
  $("scores-title").textContent = run.survival ? "Steps survived" : "Scores";
  $("vision-note").textContent =
    `Real frames above, V’s reconstructions below. Touch one to see it large and to edit its z. They come from ${run.game_of}.`;
  $("driver-c").disabled = !run.parameters;
  const keys = run.keys.map(({ key }) => SYMBOL[key]).join(" ");
  const list = [[keys, "act"], ["C", "let C act"], ["Space", "pause"], [".", "step"], ["R", "restart"], ["− +", "temperature"],
    ["D", "dream from a real frame"], ["Esc", "back"], ["T", "dark or light"], ["1 2 …", "world model"]];
  $("keys").replaceChildren();
  for (const [key, what] of list) {
    const item = document.createElement("span");
    item.innerHTML = `<kbd></kbd> ${what}`;
    item.firstChild.textContent = key;
    $("keys").append(item);
  }
}

// ---- The dream ----

function restart(z = null) {
  if (!state.run) return;
  state.look = -1;
  state.dream.start(new Draws(Math.floor(Math.random() * 2 ** 32)), z);
  action = atRest(state.run);
  state.yours = 0;
  $("over").hidden = true;
  for (const curve of Object.values(curves)) curve.clear();
  render();
}

/** The action before any: nothing, or the first choice. */
function atRest({ actions, choice }) {
  return actions.map(({ low }, number) => (choice ? Number(number === 0) : Math.max(0, low)));
}

/** The action of one more step of yours: where the keys have got it to, or what they have chosen. */
function yours({ actions, keys, choice }) {
  const pressed = keys.filter(({ key }) => held.has(key));
  if (choice) return pressed.length ? actions.map((_, number) => Number(number === pressed[0].action)) : action;
  const target = actions.map(({ low }) => Math.max(0, low));
  for (const { action: number, value } of pressed) target[number] += value;
  return action.map((value, k) => value + actions[k].ease * (target[k] - value));
}

/** One step: C's action, or yours. */
function advance() {
  const { dream, run } = state;
  if (dream.ended) return;
  if (state.agent) action = dream.agentAction();
  else {
    state.yours++;
    action = yours(run);
  }
  dream.step(action, state.tau);
  curves.spread.push(dream.uncertainty);
  if (dream.end !== null) curves.end.push(dream.end);
  if (dream.ended) finish();
  renderStep();
}

function finish() {
  const { dream, run } = state;
  const { steps } = dream;
  const who = state.yours === 0 ? "C" : "You";
  setPlaying(false);
  if (state.yours > steps / 2) state.best = Math.max(state.best, steps);
  const share = state.yours && state.yours < steps ? ` You acted in ${state.yours} of them.` : "";
  const best = state.best ? ` Your longest: ${state.best}.` : "";
  $("scores-note").textContent = scoresNote();
  if (dream.ended === "death")
    verdict(`${who} ${run.ended} in the dream`, `after ${steps} steps. M was ${Math.round(100 * dream.end)}% sure.${share}${best}`);
  else if (run.survival) verdict(`${who} survived`, `all ${steps} steps, to the game’s own end.${share}${best}`);
  else verdict("The dream is over", `after ${steps} steps, as long as an episode.${share}`);
}

function verdict(text, note, again = true) {
  $("verdict").textContent = text;
  $("verdict-note").textContent = note;
  $("again").hidden = !again;
  $("over").hidden = false;
}

/** What changes with every step: the frame, and at every second one, while it plays, what stands next to it. */
function renderStep() {
  const { dream, look: looked } = state;
  const frame = looked >= 0 ? dream.decoder.decode(state.z) : dream.frame();
  show($("screen"), frame);
  $("steps").textContent = dream.steps;
  if (looked < 0) showFilm($("real"), state.film, state.run.film, dream.steps);
  if (state.playing && dream.steps % 2) return;
  $("caption").textContent = looked < 0 ? "dream" : `V, squared error ${squaredError(realFrame(), frame).toFixed(1)}`;
  sliders.draw(looked >= 0 ? state.z : dream.z);
  for (const curve of Object.values(curves)) curve.draw();
  $("spread").textContent = dream.uncertainty.toFixed(2);
  $("end").textContent = dream.end === null ? "" : `${(100 * dream.end).toFixed(dream.end < 0.1 ? 1 : 0)}%`;
  tellSteps(dream.steps);
  for (const pad of $("pads").children) {
    const { number, value } = pad.control;
    const level = Math.abs(action[number]) < state.run.dead_zone ? 0 : action[number] / value;
    pad.firstChild.style.opacity = Math.min(1, Math.max(0, level)).toFixed(2);
  }
}

/** Everything. */
function render() {
  const looking = state.look >= 0;
  $("screens").classList.toggle("looking", looking);
  $("real-caption").textContent = looking ? "real frame" : "real game";
  if (looking) show($("real"), realFrame());
  $("tau").textContent = state.tau.toFixed(2);
  $("scores-note").textContent = scoresNote();
  for (const id of ["look-dream", "look-own", "look-back"]) $(id).disabled = !looking;
  [...$("strip").children].forEach((button, k) => button.setAttribute("aria-pressed", k === state.look));
  $("driver-c").setAttribute("aria-pressed", state.agent);
  $("driver-you").setAttribute("aria-pressed", !state.agent);
  renderStep();
}

const realFrame = () => state.arrays.frames.subarray(state.look * FRAME, (state.look + 1) * FRAME);

function scoresNote() {
  const { run, yours, best } = state;
  const unpaid = run.heads > (run.end_head ? 1 : 0) ? "" : " M has learned no reward, so nobody has a score in this dream.";
  if (!run.scores.length) return `No test yet: python evaluate.py --run DIR.${unpaid}`;
  if (!run.survival) return `Mean ± standard deviation of the ${run.unit}.${unpaid}`;
  const mine = best ? ` Your longest so far: ${best}.` : yours ? ` You acted in ${yours} of this dream’s.` : "";
  return `Mean ± standard deviation of the ${run.unit}, of ${run.max_frames} at most.${mine}`;
}

function setPlaying(playing) {
  state.playing = playing && !state.dream?.ended;
  state.times = [];
  if (state.run) renderStep();
  $("pause").innerHTML = state.playing ? "<i>❚❚</i><span>Pause</span>" : "<i>▶</i><span>Play</span>";
}

/** At the game's own pace, as far as the machine keeps up; a step that is late is not made up for. */
function tick(now) {
  requestAnimationFrame(tick);
  if (!state.playing || !state.run || now < state.due) return;
  const period = 1000 / state.run.fps;
  state.due = Math.max(state.due + period, now - period);
  advance();
  state.times = state.times.filter((time) => time > now - 1000);
  state.times.push(now);
  if (state.times.length > 1 && state.dream.steps % 8 === 0) {
    const seconds = (now - state.times[0]) / 1000;
    $("rate").textContent = Math.round((state.times.length - 1) / seconds);
  }
}

// ---- What the user does ----

const commands = {
  restart: () => {
    restart();
    setPlaying(true);
  },
  pause: () => {
    if (state.look >= 0) return commands.back();
    if (state.dream.ended) commands.restart();
    else setPlaying(!state.playing);
  },
  step: () => {
    setPlaying(false);
    state.look = -1;
    advance();
    render();
    $("over").hidden = !state.dream.ended;
  },
  agent: () => {
    state.agent = Boolean(state.dream.controller);
    render();
  },
  you: () => {
    state.agent = false;
    render();
  },
  dreamOn: () => {
    if (state.look < 0) return;
    restart(state.z);
    setPlaying(true);
  },
  own: () => state.look >= 0 && look(state.look),
  back: () => {
    if (state.look < 0) return;
    state.look = -1;
    render();
    setPlaying(state.waits);
    $("over").hidden = !state.dream.ended;
  },
  theme() {
    const theme = document.documentElement.dataset.theme === "light" ? "dark" : "light";
    setTheme(theme);
    try {
      localStorage.setItem("theme", theme); // what was chosen; else it is the system's
    } catch {} // a browser may keep nothing for a file
  },
};

function look(k) {
  if (!state.run) return; // another is being opened
  const size = state.run.z_size;
  if (state.look < 0) state.waits = state.playing;
  setPlaying(false);
  $("over").hidden = true;
  state.look = k;
  state.z = state.arrays.z.slice(k * size, (k + 1) * size);
  render();
}

/** Bars of z are moved: of the real frame that is looked at, or of the dream, which waits. */
function moveLatent(moves) {
  if (!state.run || (state.look < 0 && state.dream.ended)) return;
  setPlaying(false);
  for (const [index, value] of moves) (state.look >= 0 ? state.z : state.dream.z)[index] = value;
  render();
}

function setTemperature(tau) {
  state.tau = Math.min(2, Math.max(0.05, Math.round(tau * 20) / 20));
  $("temperature").value = state.tau;
  $("tau").textContent = state.tau.toFixed(2);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  colors = {};
  redraw();
}

function redraw() {
  if (state.run) render();
}

function setTab(tab) {
  document.body.dataset.tab = tab;
  for (const button of $("tabs").children) button.setAttribute("aria-pressed", button.dataset.tab === tab);
  redraw();
}

function press(key, down) {
  if (down && state.run) {
    held.add(key);
    if (state.look < 0) {
      if (state.agent) commands.you();
      if (!state.dream.ended && state.dream.steps === 0) setPlaying(true);
    }
  } else held.delete(key);
  for (const pad of $("pads").children) pad.classList.toggle("held", held.has(pad.control.key));
}

function makePads(run) {
  $("pads").replaceChildren();
  for (const { key, action: number, value, label } of run.keys) {
    const pad = document.createElement("button");
    pad.control = { key, number, value };
    pad.className = key.toLowerCase();
    pad.innerHTML = "<i></i><span></span>";
    pad.lastChild.textContent = `${SYMBOL[key]} ${label}`;
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      press(key, true);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) pad.addEventListener(end, () => press(key, false));
    pad.addEventListener("contextmenu", (event) => event.preventDefault());
    $("pads").append(pad);
  }
}

const KEYS = {
  " ": commands.pause, ".": commands.step, r: commands.restart, c: commands.agent, d: commands.dreamOn,
  Escape: commands.back, t: commands.theme,
  "-": () => setTemperature(state.tau - 0.05), "+": () => setTemperature(state.tau + 0.05), "=": () => setTemperature(state.tau + 0.05),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.id === "temperature" && event.key.startsWith("Arrow")) return; // the slider's own, and a button's
  if (event.target.closest?.("button, a, .term") && [" ", "Enter"].includes(event.key)) return;
  const arrow = event.key.startsWith("Arrow") && event.key.slice(5);
  const digit = RUNS[Number(event.key) - 1];
  if (event.repeat && [" ", "r", "R", "t", "T"].includes(event.key)) return event.preventDefault();
  const command = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (arrow) press(arrow, true);
  else if (digit) openRun(digit.name);
  else if (command && state.run) command();
  else return;
  event.preventDefault();
});
addEventListener("keyup", (event) => event.key.startsWith("Arrow") && press(event.key.slice(5), false));
addEventListener("blur", () => [...held].forEach((key) => press(key, false)));
addEventListener("resize", redraw);
addEventListener("hashchange", () => openRun(asked()));

for (const [id, command] of Object.entries({
  restart: commands.restart, again: commands.restart, pause: commands.pause, step: commands.step, theme: commands.theme,
  "driver-c": commands.agent, "driver-you": commands.you, "look-dream": commands.dreamOn, "look-own": commands.own,
  "look-back": commands.back,
}))
  $(id).addEventListener("click", () => {
    if (state.run || id === "theme") command();
  });
// After a click Space and the arrows are the dream's, not the button's.
addEventListener("click", (event) => event.detail && event.target.closest?.("button, .term")?.blur());
$("temperature").addEventListener("input", (event) => setTemperature(Number(event.target.value)));
$("temperature").addEventListener("pointerup", (event) => event.target.blur());
for (const button of $("tabs").children) button.addEventListener("click", () => setTab(button.dataset.tab));
for (const part of document.querySelectorAll(".term")) {
  part.setAttribute("role", "button");
  part.setAttribute("tabindex", 0);
  const choose = () => state.run && explain(part.getAttribute("aria-pressed") === "true" ? "" : part.dataset.term);
  part.addEventListener("click", choose);
  part.addEventListener("keydown", (event) => event.key === "Enter" && choose());
}

let theme = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
try {
  theme = localStorage.getItem("theme") ?? theme;
} catch {} // as above
setTheme(theme);
setTab("about");
for (const { name, title } of RUNS) {
  const button = document.createElement("button");
  button.dataset.name = name;
  const [short, long] = title.split(": ");
  const rest = document.createElement("span");
  rest.className = "long";
  rest.textContent = long ? `: ${long}` : "";
  button.append(short, rest);
  button.title = title;
  button.addEventListener("click", () => openRun(name));
  $("runs").append(button);
}
/** The run that the address names, or the first. */
function asked() {
  let named = location.hash.slice(1);
  try {
    named = decodeURIComponent(named);
  } catch {} // typed by hand
  return RUNS.some(({ name }) => name === named) ? named : RUNS[0].name;
}
openRun(asked());
requestAnimationFrame(tick);
