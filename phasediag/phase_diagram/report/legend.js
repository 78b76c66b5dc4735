// The legend of the map, in HTML: it wraps on a phone.

function drawLegend(state) {
  const layer = content.layers[state.layer];
  const scale = QUANTITIES[state.quantity].of(layer, state.width);
  const items = (scale.names || []).map(([name, tint]) => [swatch(tint), name]);
  lineLayers(layer, state.quantity).forEach((one, i, all) => {
    const column = lineColumn(one, state.quantity);
    const text = `measured, S${all.length > 1 ? `(${symbol(one.name)})` : ""} = 0${column === "slope" ? "" : " at m → ∞"}`;
    if (one.measured[column].gamma.some(known)) items.push([sample(i ? "dots" : "line", "#000000"), text]);
  });
  if (bandTraces(layer, state.quantity).length) items.push([sample("band", "#3b3b3b"), "95 % band"]);
  if (lineLayers(layer, state.quantity).some((one) => one.predicted))
    items.push([sample("dashes", content.colours.predicted), "predicted"]);
  if (content.named.length) items.push([sample("diamond", "#ffffff"), "named initialisation"]);
  if (content.networks.length) items.push([sample("circle", "#ffffff"), "network kept"]);
  if (missingTrace(scale)) items.push([sample("cross", colour("quiet")), scale.missing || "no value"]);
  show("legend", ...items.map(([picture, text]) => make("li", {}, picture, text)));
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
  cross: ["M9 3 L17 11 M17 3 L9 11", { "stroke-width": 1.8 }],
};

/** A picture of what stands on the map. Lines lie on white there, too. */
function sample(kind, tint) {
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
  if (kind !== "cross") put({ width: 26, height: 14, rx: 2, fill: "#ffffff" }, "rect", picture);
  put({ d: path, fill: tint, stroke: tint, ...style }, "path", picture);
  return picture;
}
