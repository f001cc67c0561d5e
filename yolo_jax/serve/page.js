// The image stays here; each move of a slider asks the server again, and the last answer counts.
const at = (id) => document.getElementById(id);
const canvas = at("canvas"), drop = at("drop"), file = at("file"), status = at("status");
const sliders = ["conf", "iou"];
const PAUSE_MS = 120; // that a slider rests before the server is asked
const TRIES = 20; // while the server has no place
const LINE = 2.5; // px of the page

let served = null; // what /health says
let image = null; // {name, blob, bitmap}
let answer = null; // of the server, for this image
let asking = null; // AbortController of the request under way
let marked = -1; // number of the detection that is pointed at

const colourOf = (name) => served.colours[served.classes.indexOf(name)] ?? "#4477aa";

// Black or white, whichever is told from the colour better.
function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff";
}

function tell(text, isBad = false) {
  status.textContent = text;
  status.classList.toggle("bad", isBad);
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// Asks until there is a place; throws an Error with the server's own words.
async function detect(blob, signal) {
  const address = `detect?conf=${at("conf").value}&iou=${at("iou").value}`;
  for (let turn = 0; ; turn++) {
    const reply = await fetch(address, { method: "POST", body: blob, signal });
    if (reply.ok) return reply.json();
    if (reply.status !== 503 || turn === TRIES) {
      const said = await reply.json().catch(() => ({ error: `status ${reply.status}` }));
      throw new Error(said.error);
    }
    await pause(1000 * (Number(reply.headers.get("Retry-After")) || 1));
  }
}

async function ask() {
  if (!image) return;
  asking?.abort();
  const mine = (asking = new AbortController());
  const start = performance.now();
  if (!answer) tell("Looking …");
  try {
    const found = await detect(image.blob, mine.signal);
    if (asking !== mine) return;
    answer = found;
    marked = -1;
    const count = found.detections.length;
    const ms = Math.round(performance.now() - start);
    tell(`${count || "No"} object${count === 1 ? "" : "s"} in ${ms} ms`);
  } catch (error) {
    if (asking !== mine || error.name === "AbortError") return;
    answer = null;
    const isGone = error instanceof TypeError; // as fetch has it
    tell(isGone ? "The server cannot be reached." : error.message, true);
  }
  show();
}

function show() {
  canvas.hidden = !image;
  drop.hidden = Boolean(image);
  at("other").hidden = !image;
  at("json").disabled = !answer;
  list();
  draw();
}

function list() {
  const rows = (answer?.detections ?? []).map((one, number) => {
    const row = document.createElement("li");
    const swatch = document.createElement("i"), name = document.createElement("span");
    const score = document.createElement("b");
    swatch.style.background = colourOf(one.class);
    name.textContent = one.class;
    score.textContent = one.score.toFixed(2);
    row.append(swatch, name, score);
    row.addEventListener("pointerenter", () => mark(number));
    row.addEventListener("pointerleave", () => mark(-1));
    return row;
  });
  at("found").replaceChildren(...rows);
}

function mark(number) {
  if (number === marked) return;
  marked = number;
  [...at("found").children].forEach((row, at) => row.classList.toggle("marked", at === number));
  draw();
}

function draw() {
  if (!image) return;
  const width = image.bitmap?.width ?? answer?.width, height = image.bitmap?.height ?? answer?.height;
  if (!width) {
    canvas.width = canvas.height = 0;
    return;
  }
  // As many points as the screen has, so that lines and text are sharp; never more than it shows.
  const shown = Math.min(canvas.parentElement.clientWidth, (innerHeight * 0.82 * width) / height);
  const scale = (shown * devicePixelRatio) / width;
  canvas.style.width = `${shown}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  if (image.bitmap) pen.drawImage(image.bitmap, 0, 0, canvas.width, canvas.height);
  const found = answer?.detections ?? [];
  // The best is drawn last, on top; what is pointed at on top of all, and its label is placed first.
  const order = found.map((_, number) => number);
  if (marked >= 0) order.unshift(...order.splice(marked, 1));
  for (const number of [...order].reverse()) outline(pen, found[number], scale, isPale(number));
  const taken = [];
  for (const number of order) label(pen, found[number], scale, isPale(number), taken);
  pen.globalAlpha = 1;
}

const isPale = (number) => marked >= 0 && marked !== number;

function outline(pen, one, scale, pale) {
  const [left, top, right, bottom] = one.box.map((side) => side * scale);
  pen.globalAlpha = pale ? 0.3 : 1;
  pen.lineWidth = LINE * devicePixelRatio;
  pen.strokeStyle = colourOf(one.class);
  pen.strokeRect(left, top, right - left, bottom - top);
}

// At the first of some places that no label has taken; within the image.
function label(pen, one, scale, pale, taken) {
  const dot = devicePixelRatio, half = (LINE * dot) / 2;
  const [left, top, right, bottom] = one.box.map((side) => side * scale);
  pen.font = `600 ${13 * dot}px system-ui, "Noto Sans", "DejaVu Sans", sans-serif`;
  const text = `${one.class} ${one.score.toFixed(2)}`;
  const wide = pen.measureText(text).width + 8 * dot, high = 19 * dot;
  const places = [[left - half, top - high], [right + half - wide, top - high]]
    .concat([[left - half, top], [left - half, bottom], [right + half - wide, bottom - high]])
    .map(([x, y]) => [
      Math.max(0, Math.min(x, canvas.width - wide)),
      Math.max(0, Math.min(y, canvas.height - high)),
    ]);
  const isFree = ([x, y]) =>
    taken.every(([a, b, w]) => x >= a + w || x + wide <= a || Math.abs(y - b) >= high);
  const [x, y] = places.find(isFree) ?? places[0];
  taken.push([x, y, wide]);
  pen.globalAlpha = pale ? 0.3 : 1;
  pen.fillStyle = colourOf(one.class);
  pen.fillRect(x, y, wide, high);
  pen.fillStyle = inkOn(colourOf(one.class));
  pen.textBaseline = "middle";
  pen.fillText(text, x + 4 * dot, y + high / 2 + dot);
}

async function take(blob) {
  if (!blob) return;
  const { body } = served.limits;
  if (blob.size > body) {
    tell(`${blob.name}: ${blob.size} bytes; at most ${body} are taken`, true);
    return;
  }
  asking?.abort();
  image?.bitmap?.close();
  answer = null;
  // What the browser cannot show the server may still read, or say what is wrong with it.
  const bitmap = await createImageBitmap(blob).catch(() => null);
  image = { name: blob.name || "image", blob, bitmap };
  show();
  await ask();
}

function leave() {
  asking?.abort();
  image?.bitmap?.close();
  image = answer = null;
  file.value = "";
  tell("");
  show();
  file.focus();
}

function download() {
  const content = JSON.stringify([{ image: image.name, ...answer }], null, 2) + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  link.download = image.name.replace(/\.[^.]*$/, "") + ".json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

let resting;
for (const name of sliders) {
  at(name).addEventListener("input", () => {
    at(`${name}-value`).textContent = Number(at(name).value).toFixed(2);
    clearTimeout(resting);
    resting = setTimeout(ask, PAUSE_MS);
  });
}
file.addEventListener("change", () => take(file.files[0]));
addEventListener("paste", (event) => take(event.clipboardData.files[0]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files[0]);
});
canvas.addEventListener("pointermove", (event) => {
  const scale = (answer?.width ?? 0) / canvas.clientWidth;
  const [x, y] = [event.offsetX * scale, event.offsetY * scale];
  const within = ({ box: [left, top, right, bottom] }) =>
    left <= x && x <= right && top <= y && y <= bottom;
  const area = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
  const found = answer?.detections ?? [];
  const hits = found.filter(within).sort((one, other) => area(one) - area(other));
  mark(found.indexOf(hits[0]));
});
canvas.addEventListener("pointerleave", () => mark(-1));
at("json").addEventListener("click", download);
at("other").addEventListener("click", leave);
addEventListener("resize", draw);

try {
  served = await (await fetch("health")).json();
  at("model").textContent = document.title = served.model;
  const [height, width] = served.input, count = served.classes.length;
  at("about").textContent =
    `${count} class${count === 1 ? "" : "es"}, input of ${width} × ${height} px`;
  at("about").title = served.classes.join(", ");
  at("limits").textContent =
    `at most ${served.limits.body / 1e6} MB and ${served.limits.pixels / 1e6} megapixels; images are not kept`;
  for (const name of sliders) {
    at(name).value = served[name];
    at(`${name}-value`).textContent = Number(at(name).value).toFixed(2);
  }
} catch {
  tell("The server cannot be reached.", true);
}
