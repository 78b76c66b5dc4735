"use strict";
// Elements, numbers in words, and what all plots have in common. Text from the study only ever becomes text nodes.

const content = JSON.parse(document.getElementById("content").textContent);
const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a string among them becomes text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A table of texts, or elements; columns named in `words` are text, the others numbers. */
function makeTable(columns, rows, { caption = "", words = [] } = {}) {
  const style = (name) => (words.includes(name) ? { class: "words" } : {});
  const head = columns.map((name) => make("th", { scope: "col", ...style(name) }, name));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell, i) => make("td", style(columns[i]), cell))));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  if (caption) table.prepend(make("caption", {}, caption));
  return table;
}

function show(id, ...children) {
  byId(id).replaceChildren(...children);
}

function setOptions(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  select.value = String(chosen);
}

// Numbers in words.

const known = (number) => number !== null && number !== undefined;
const minus = (text) => text.replace("-", "−");

/** With three decimals, as slopes and distances are. */
function decimals(number) {
  return known(number) ? minus((Math.round(number * 1000) / 1000 + 0).toFixed(3)) : "–";
}

/** With four significant digits. */
function digits(number, count = 4) {
  if (!known(number)) return "–";
  const size = Math.abs(number);
  if (size === 0 || (size >= 1e-3 && size < 10 ** count)) return minus(number.toPrecision(count));
  if (size >= 1 && size < 1e6) return minus(number.toFixed(0));
  const [value, power] = number.toExponential(count - 1).split("e");
  return `${minus(value)}·10${raised(power.replace("+", ""))}`;
}

function raised(power) {
  return [...power].map((sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign] || "⁻").join("");
}

const exponent = (number) => minus(String(number));
const symbol = (layer) => layer.replace(/\d/, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);
const interval = (middle, low, high) =>
  known(low) && known(high) ? `${decimals(middle)} (${decimals(low)} to ${decimals(high)})` : decimals(middle);
const plural = (count, one, many = one + "s") => `${count} ${count === 1 ? one : many}`;

/** Text in a plot: Plotly takes a little HTML for markup, which text from the study must not be. */
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// Plots.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const coarse = matchMedia("(pointer: coarse)");

function axis(title, options = {}) {
  const lines = { gridcolor: colour("line"), linecolor: colour("field"), tickcolor: colour("field"), zeroline: false };
  return { title: { text: title, standoff: 22 }, automargin: false, showline: true, ticks: "outside", ...lines, ...options };
}

function draw(id, traces, layout) {
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hovermode: "closest",
    showlegend: false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("text") },
    margin: { l: 56, r: 14, t: 14, b: 46 },
    dragmode: coarse.matches ? false : "zoom",
    hoverlabel: {
      bgcolor: colour("panel"),
      bordercolor: colour("field"),
      font: { color: colour("text"), size: 12 },
      align: "left",
    },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
  };
  const bar = { displaylogo: false, displayModeBar: id === "map" ? "hover" : false };
  // A browser follows a tap with a click, which is a double click to Plotly: it must not move the axes.
  const config = {
    responsive: true,
    doubleClick: "reset",
    ...bar,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  const plot = byId(id);
  resized.observe(plot);
  const drawn = Plotly.react(plot, traces, { ...base, ...layout }, config);
  drawn.then(() => fit(plot));
  return drawn;
}

/** Makes a plot as wide as its place. Plotly looks at the window alone, and misses a change that comes while it draws. */
function fit(plot) {
  if (!plot.hidden && plot.clientWidth && plot._fullLayout?.width !== plot.clientWidth) Plotly.Plots.resize(plot);
}

const resized = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));

/**
 * Calls `act` with the number of the point that is clicked or tapped, of the traces that number their points (customdata).
 *
 * Plotly looks for what is under the pointer at intervals, so a click, above all a tap, may come with the point before: look again.
 */
function onPoint(id, act) {
  const plot = byId(id);
  plot.on("plotly_click", ({ event }) => {
    Plotly.Fx.unhover(plot); // ends the interval, too
    Plotly.Fx.hover(plot, event, "xy");
    const number = plot._hoverdata?.[0].customdata;
    if (known(number)) act(number);
  });
}

/** Describes a plot to those who do not see it, and shows or hides it. */
function announce(id, visible, description = "") {
  byId(id).hidden = !visible;
  byId(id).setAttribute("aria-label", description);
}
