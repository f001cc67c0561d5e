"use strict";

const PLOTS = JSON.parse(document.getElementById("plots").textContent);
const DARK = matchMedia("(prefers-color-scheme: dark)");
const LINES = ["#3b82c4", "#d95f4c", "#3f9e57", "#b58a1b", "#9a62b8", "#2aa6a0", "#c9608f", "#7d8790"];
const MOST_NAMED = 12; // lines that a legend names; of more each is named where it is pointed at
const AXIS_WIDTH = 120; // px of an axis of parallel coordinates

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A plot's traces and layout in the colours of the page.
function themed(plot) {
  const data = structuredClone(plot.data);
  const layout = structuredClone(plot.layout);
  const text = { color: colour("--text"), size: 12, family: "inherit" };
  for (const trace of data) {
    if (trace.line?.color !== undefined && trace.type === "scatter") {
      const number = trace.line.color; // of a colour; those behind the last come again, dotted
      trace.line.color = LINES[number % LINES.length];
      if (number >= LINES.length) trace.line.dash ??= "dot";
    }
    if (trace.type === "heatmap") {
      trace.customdata = trace.meta.map((row) => trace.meta.map((column) => [row, column]));
      trace.colorscale = [[0, colour("--panel")], [1, colour("--accent")]];
    } else if (trace.type === "parcoords") {
      trace.line.color ??= LINES[0];
      if (trace.meta === "group") {
        if (Array.isArray(trace.line.color)) {
          trace.line.color = trace.line.color.map((number) => number % LINES.length);
        }
        Object.assign(trace.line, { cmin: 0, cmax: LINES.length - 1 });
        trace.line.colorscale = LINES.map((one, number) => [number / (LINES.length - 1), one]);
      } else {
        trace.line.colorscale = [[0, LINES[0]], [0.5, LINES[4]], [1, LINES[1]]];
      }
      trace.labelfont = trace.tickfont = { ...text, size: 11, family: "sans-serif" };
      trace.rangefont = { ...trace.tickfont, color: "rgba(0,0,0,0)" };
      trace.unselected = { line: { color: colour("--line"), opacity: 0.4 } };
    }
  }
  for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
    const axis = layout[name];
    Object.assign(axis, { gridcolor: colour("--line"), zerolinecolor: colour("--line") });
    axis.exponentformat = "power"; // else 0.0002 is 200µ
    Object.assign(axis, { automargin: true, title: { ...axis.title, font: text, standoff: 8 } });
  }
  const named = data.filter((trace) => trace.showlegend !== false).length;
  const isCoordinates = data[0].type === "parcoords";
  return [data, {
    ...layout,
    font: text,
    colorway: LINES,
    paper_bgcolor: colour("--page"),
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: isCoordinates ? { l: 60, r: 60, t: 50, b: 20 } : { l: 40, r: 16, t: 10, b: 30 },
    showlegend: !isCoordinates && data.length > 1 && named <= MOST_NAMED,
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom" },
    hoverlabel: { namelength: -1 },
    // A finger that draws over a plot scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
  }];
}

function draw(place) {
  const plot = PLOTS[place.id];
  if (plot.data[0].type === "parcoords") {
    place.style.minWidth = `${plot.data[0].dimensions.length * AXIS_WIDTH}px`;
  }
  if (plot.height !== undefined) {
    place.style.height = `${plot.height}px`;
  }
  Plotly.react(place, ...themed(plot), { responsive: true, displaylogo: false, displayModeBar: false });
  place.dataset.drawn = "";
}

// Plots are drawn when they come into view: of many runs most never do.
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    watch.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "300px" });
document.querySelectorAll(".canvas").forEach((place) => watch.observe(place));
DARK.addEventListener("change", () => document.querySelectorAll(".canvas[data-drawn]").forEach(draw));

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text);
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

// Sorts by a column; a second time the other way round. What has no value stands last either way.
function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const isRising = heads[column].getAttribute("aria-sort") !== "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", isRising ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return isRising ? compare(a, b) : compare(b, a);
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => sort(table, column));
  });
}

for (const filter of document.querySelectorAll(".filter")) {
  const input = filter.querySelector("input");
  const rows = [...filter.parentElement.querySelector("table.runs").tBodies[0].rows];
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const left = rows.filter((row) => !row.hidden).length;
    filter.querySelector("[aria-live]").textContent = `${left} of ${rows.length} runs`;
  };
  input.addEventListener("input", apply);
  apply();
}

// A link to a run opens it.
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target?.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", openTarget);
// A second click on it changes no address; the run may have been closed since.
document.querySelectorAll("table.runs a").forEach((link) => link.addEventListener("click", () => {
  if (link.hash === location.hash) openTarget();
}));
openTarget();
