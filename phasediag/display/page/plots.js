// What all plots have in common: axes, drawing, clicks, and legends in HTML, which wrap on a phone.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const coarse = matchMedia("(pointer: coarse)");

function axis(title, options = {}) {
  const lines = { gridcolor: colour("line"), linecolor: colour("field"), tickcolor: colour("field"), zeroline: false };
  return { title: { text: title, standoff: 22 }, automargin: false, showline: true, ticks: "outside", ...lines, ...options };
}

/** Draws a plot, with buttons on it if these are asked for. */
function draw(id, traces, layout, { buttons = false } = {}) {
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hovermode: "closest",
    showlegend: false,
    uirevision: location.hash, // As long as the view is the same, axes stay as they were moved.
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
  const bar = { displaylogo: false, displayModeBar: buttons && "hover" };
  // A browser follows a tap with a click, which is a double click to Plotly: it must not move the axes.
  const config = {
    responsive: true,
    doubleClick: "reset",
    ...bar,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  const plot = byId(id);
  const isNew = !plot.on;
  resized.observe(plot);
  const drawn = Plotly.react(plot, traces, { ...base, ...layout }, config);
  if (isNew) plot.on("plotly_click", ({ event }) => choosePoint(plot, event));
  drawn.then(() => fit(plot));
  return drawn;
}

/** Makes a plot as wide as its place. Plotly looks at the window alone, and misses a change that comes while it draws. */
function fit(plot) {
  if (!plot.hidden && plot.clientWidth && plot._fullLayout?.width !== plot.clientWidth) Plotly.Plots.resize(plot);
}

const resized = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));

const onPoint = {}; // by plot: what takes the number of a point that is clicked or tapped, of traces with numbers (customdata)

/** Plotly looks for what is under the pointer at intervals, so a click, above all a tap, may come with the point before: looks again. */
function choosePoint(plot, event) {
  Plotly.Fx.unhover(plot); // ends the interval, too
  Plotly.Fx.hover(plot, event, "xy");
  const number = plot._hoverdata?.[0].customdata;
  if (known(number)) onPoint[plot.id]?.(number);
}

/** Describes a plot to those who do not see it, and shows or hides it. */
function announce(id, visible, description = "") {
  byId(id).hidden = !visible;
  byId(id).setAttribute("aria-label", description);
}

/** Decades between two powers of ten; with more between them where these are few, `fine` or less. */
function logTicks(low, high, fine = 1) {
  const parts = high - low > 2.5 ? [1] : high - low > fine ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  const step = Math.ceil((high - low) / 6);
  const ticks = [];
  for (let power = Math.floor(low); power <= high; power += 1) {
    for (const part of parts) {
      const at = power + Math.log10(part);
      if (at >= low && at <= high && (parts.length > 1 || power % step === 0)) ticks.push([at, tickText(part, power)]);
    }
  }
  return ticks;
}

/** Ticks of a plot as pairs of a place and a text, whose axis has this length; without a text where the one before is too near. */
function spacedTicks(id, ticks, length) {
  const room = (byId(id).clientWidth - 72) / length;
  let last = -Infinity;
  const texts = ticks.map(([place, text]) => {
    const fits = (place - last) * room > 36;
    if (fits) last = place;
    return fits ? text : "";
  });
  return { tickvals: ticks.map(([place]) => place), ticktext: texts, tickangle: 0 };
}

/** A logarithmic axis; where there is little to tell apart on it, Plotly spaces the ticks evenly. */
function logAxis(values) {
  const logs = values.map(Math.log10);
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  if (high - low < 0.35) return { type: "log" };
  const ticks = logTicks(low - 0.2, high + 0.2, 1.4);
  return { type: "log", tickvals: ticks.map(([power]) => 10 ** power), ticktext: ticks.map(([, text]) => text) };
}

/** Positive quantities along the training on a logarithmic axis, by name: [x, y] of each. */
function drawCourses(id, courses, horizontal, title, layout = {}) {
  const names = Object.keys(courses),
    dashes = ["solid", "dash", "dot"],
    tints = ["accent", "second", "third"];
  announce(id, true, `${title} along the training`);
  const traces = names.map((name, i) => {
    const [x, y] = courses[name];
    const shown = y.map((_, k) => k).filter((k) => known(y[k]) && y[k] > 0);
    return {
      type: "scatter",
      mode: "lines",
      name: plain(name),
      x: shown.map((k) => x[k]),
      y: shown.map((k) => y[k]),
      line: { color: colour(tints[i % tints.length]), width: 2, dash: dashes[i % dashes.length] },
    };
  });
  const values = traces.flatMap((trace) => trace.y);
  draw(id, traces, {
    xaxis: horizontal,
    yaxis: axis(title, values.length ? logAxis(values) : {}),
    showlegend: names.length > 1,
    margin: { l: 68, r: 10, t: names.length > 1 ? 34 : 14, b: 48 },
    ...layout,
  });
}

// Legends.

/** Shows pairs of a picture and a text. */
function showLegend(id, items) {
  show(id, ...items.map(([picture, text]) => make("li", {}, picture, text)));
}

function swatch(tint) {
  const box = make("span", { class: "swatch", "aria-hidden": "true" });
  box.style.background = tint;
  return box;
}

const SAMPLES = {
  line: ["M1 7 H25", { fill: "none", "stroke-width": 2.5 }],
  dots: ["M1 7 H25", { fill: "none", "stroke-width": 2.5, "stroke-dasharray": "2.5 2.5" }],
  dashes: ["M1 7 H25", { fill: "none", "stroke-width": 2.5, "stroke-dasharray": "7 3" }],
  band: ["M1 2 H25 V12 H1 Z", { fill: "#8a8a8a" }],
  diamond: ["M13 2 L18 7 L13 12 L8 7 Z", { stroke: "#1b1f24", "stroke-width": 1.5 }],
  circle: ["M13 4 A3 3 0 1 1 12.99 4 Z", { stroke: "#1b1f24", "stroke-width": 1.5 }],
  dot: ["M13 2 A5 5 0 1 1 12.99 2 Z", {}],
  cross: ["M9 3 L17 11 M17 3 L9 11", { "stroke-width": 1.8 }],
};

/** A picture of what stands in a plot, on the ground that it has there. */
function sample(kind, tint, ground = "#ffffff") {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  const [path, style] = SAMPLES[kind];
  const put = (attributes, name, into) => {
    const element = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    into.append(element);
  };
  picture.setAttribute("width", "26");
  picture.setAttribute("height", "14");
  picture.setAttribute("aria-hidden", "true");
  put({ width: 26, height: 14, rx: 2, fill: ground }, "rect", picture);
  put({ d: path, fill: tint, stroke: tint, ...style }, "path", picture);
  return picture;
}
