"use strict";
// Elements, and numbers in words. Text from the study only ever becomes text nodes.

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

/** Fills an element. What is there already stays, with its focus and its scroll: a page may show nearly the same again and again. */
function show(id, ...children) {
  fill(byId(id), [...make("div", {}, ...children).childNodes]);
}

function fill(element, nodes) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const there = [...element.childNodes];
  nodes.forEach((node, i) => {
    const old = there[i];
    if (!old) element.append(node);
    else if (isFrameOf(old, node)) fill(old, [...node.childNodes]);
    else if (!old.isEqualNode(node)) old.replaceWith(node);
  });
  there.slice(nodes.length).forEach((node) => node.remove());
  if (focused && !focused.isConnected) {
    const same = (other) => nameOf(other) === nameOf(focused);
    [...element.querySelectorAll(focused.tagName)].find(same)?.focus({ preventScroll: true });
  }
}

/** Whether two elements differ in what is within them at most. Controls are taken whole: what they do belongs to what they show. */
function isFrameOf(old, node) {
  return !["BUTTON", "SELECT"].includes(old.tagName) && old.cloneNode().isEqualNode(node.cloneNode());
}

const nameOf = (control) => control.getAttribute("aria-label") ?? control.textContent;

function setOptions(select, options, chosen) {
  const isChosen = (value) => (String(value) === String(chosen) ? { selected: "" } : {});
  fill(
    select,
    options.map(([value, text]) => make("option", { value, ...isChosen(value) }, text)),
  );
  select.value = String(chosen);
}

/** Calls `act` with the value that a control is changed to. */
function onChange(id, act) {
  byId(id).addEventListener("input", (event) => act(event.target.value));
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

/** A factor times a power of ten, written out up to the power `most`. */
function tickText(part, power, most = 4) {
  return power >= -4 && power <= most
    ? String(Number((part * 10 ** power).toPrecision(2)))
    : `${part === 1 ? "" : part + "·"}10${raised(String(power))}`;
}

/** With at most four significant digits. */
const exponent = (number) => minus(String(Number(number.toPrecision(4))));
/** Names of layers in a text with their numbers below the line. */
const symbol = (text) => text.replace(/\b([A-Z])(\d)\b/g, (_, letter, digit) => letter + "₀₁₂₃₄₅₆₇₈₉"[digit]);
const interval = (middle, low, high) =>
  known(low) && known(high) ? `${decimals(middle)} (${decimals(low)} to ${decimals(high)})` : decimals(middle);
const plural = (count, one, many = one + "s") => `${count} ${count === 1 ? one : many}`;

/** Text in a plot: Plotly takes a little HTML for markup, which text from the study must not be. */
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}
