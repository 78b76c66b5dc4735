// The map: cells of the grid, points off it, critical lines, named initialisations, the selected point.

let points, plane, regimes, diverging, sequential;
let cellOf; // by point: its row and column, on the grid

// The colours of maps side by side mean the same: `own` are the ends of the scale of this map by itself, `shared` the ends for all of them.
let own = null;
let shared = null;

/** The ends of the scale, if it has none of its own accord. */
function ends(range) {
  own = { ...own, range };
  return shared?.key === own.key ? shared.range : range;
}

function scale() {
  return own.range ? own : null;
}

function share(scale) {
  const known = shared?.key === scale.key ? shared.range : own.range;
  shared = scale;
  if (scale.key === own.key && String(known) !== String(scale.range)) render();
}

function receive() {
  ({ points, plane, regimes } = content);
  cellOf = new Map(plane.cells.flatMap((row, i) => row.map((point, j) => [point, [i, j]])));
  cellOf.delete(null);
  const scale = (shades) => shades.map((shade, i) => [i / (shades.length - 1), shade]);
  [diverging, sequential] = [scale(content.colours.diverging), scale(content.colours.sequential)];
}

const QUANTITIES = {
  slope: {
    name: "slope S over the widths",
    of: (layer) => slopeScale(layer, "slope", `S = d log RD(${symbol(layer.name)}) / d log m`),
  },
  slope_infinite: {
    name: "slope at infinite width",
    of: (layer) => slopeScale(layer, "slope_infinite", `S(${symbol(layer.name)}) at m → ∞`),
    there: (layer) => layer.slopes.slope_infinite.some(known),
  },
  regime: {
    name: "regime",
    of: (layer) => regimeScale(layer.regime, content.colours.regimes),
  },
  combined: {
    name: "regimes of W₁ and W₂ together",
    of: () => regimeScale(content.combined.regime, content.combined.colours),
    there: () => content.combined !== null,
  },
  change: {
    name: "relative change RD at a width",
    wide: true,
    of: (layer, width) => logScale(layer.change, width, `RD(${symbol(layer.name)}) at m = ${widthText(content.widths[width])}`),
  },
  orientations: {
    name: "orientations at a width",
    wide: true,
    of: (layer, width) =>
      logScale(layer.orientations, width, `orientations of ${symbol(layer.name)} at m = ${widthText(content.widths[width])}`),
    there: (layer) => layer.orientations !== null,
  },
  evaluations: {
    name: "evaluations at a width",
    wide: true,
    of: (_, width) => logScale(content.evaluations, width, `evaluations (median) at m = ${widthText(content.widths[width])}`),
  },
  round: {
    name: "round of refinement",
    of: () => roundScale(),
    there: () => content.rounds !== null,
  },
  status: {
    name: "status: share not converged",
    of: () => ({
      values: content.not_converged,
      colours: sequential,
      range: [0, 1],
      title: "share of runs that did not converge",
      ticks: [0, 0.25, 0.5, 0.75, 1].map((share) => [share, `${100 * share} %`]),
    }),
  },
};

/** Which round of refinement placed a point; those of the grid are crosses. */
function roundScale() {
  const last = Math.max(...content.rounds, 1);
  return {
    values: content.rounds.map((round) => round || null),
    colours: sequential,
    range: [0.5, last + 0.5],
    title: "round that placed the point",
    ticks: Array.from({ length: last }, (_, k) => [k + 1, String(k + 1)]),
    missing: "grid",
  };
}

function slopeScale(layer, column, title) {
  return signedScale(layer.slopes[column], layer.limits[column], title);
}

/** Colours about 0, as far as a limit on both sides. */
function signedScale(values, farthest, title) {
  const [, limit] = ends([-farthest, farthest]);
  const ticks = [-1, -0.5, 0, 0.5, 1].map((part) => [part * limit, minus(String(Number((part * limit).toPrecision(2))))]);
  if (values.some((value) => known(value) && value < -limit)) ticks[0][1] = "≤ " + ticks[0][1];
  if (values.some((value) => known(value) && value > limit)) ticks[4][1] = "≥ " + ticks[4][1];
  return { values, colours: diverging, range: [-limit, limit], title, ticks };
}

/** A colour for every name of a regime; `names` are those that occur, for the legend. */
function regimeScale(codes, tints) {
  const shades = Object.values(tints);
  return {
    values: codes.map((code) => (code < 0 ? null : code)),
    range: [-0.5, shades.length - 0.5],
    colours: shades.flatMap((shade, i) => [i, i + 1].map((edge) => [edge / shades.length, shade])),
    names: Object.entries(tints).filter((_, code) => codes.includes(code)),
  };
}

function logScale(table, width, title) {
  return decadeScale(table.values[width], table.range, title);
}

function decadeScale(numbers, range, title) {
  const [low, high] = ends(range.map(Math.log10));
  return {
    values: numbers.map((value) => (known(value) && value > 0 ? Math.log10(value) : null)),
    colours: sequential,
    range: [low, high],
    title,
    ticks: logTicks(low, high),
  };
}

/** A width: round ones of five digits and more by their power of ten. */
function widthText(width) {
  const power = Math.floor(Math.log10(width));
  return power < 4 || width % 10 ** (power - 1) ? String(width) : tickText(width / 10 ** power, power, 3);
}

/** The column whose zero is the line on this map. */
function lineColumn(layer, quantity) {
  return quantity in layer.measured ? quantity : layer.deciding;
}

/** The layers whose lines are on this map. */
function lineLayers(layer, quantity) {
  return ["combined", "round"].includes(quantity) ? content.layers.filter(({ name }) => name !== "a") : [layer];
}

function drawMap(state) {
  const layer = content.layers[state.layer];
  const one = chosenMeasure(state);
  own = { key: one ? `${one.name} ${one.layer}` : `${state.quantity} ${layer.name}` };
  const scale = scaleOf(state);
  const cells = cellTrace(scale);
  const lines = one
    ? [...measureBands(one), ...measureLines(one)]
    : [...bandTraces(bandLine(layer, state.quantity)), ...lineTraces(lineLayers(layer, state.quantity), state.quantity)];
  const traces = [
    cells,
    ...lines,
    scatteredTrace(scale, !cells),
    missingTrace(scale),
    keptTrace(),
    namedTrace(),
    ...selectedTraces(state.point),
  ].filter(Boolean);
  const texts = traces.filter((trace) => trace.customdata);
  for (const trace of texts) trace.text = nested(trace.customdata, (point) => hoverText(layer, point, scale, state));
  const painted = traces.find((trace) => trace.type === "heatmap") || traces.find((trace) => trace.name === "scattered");
  if (painted && scale.ticks) (painted.marker || painted).colorbar = colourBar(scale);
  byId("map").classList.toggle("flat", new Set(points.gamma_prime).size < 2);
  const [across, up] = plane.limits.map((ends) => [...ends]); // Plotly changes what it is given when somebody zooms.
  const plane_1 = plane.gamma_1 ? `   (γ₁ = ${exponent(plane.gamma_1)})` : "";
  return draw(
    "map",
    traces,
    {
      xaxis: axis(`γ${plane_1}`, { range: across, showgrid: false }),
      yaxis: axis("γ′", { range: up, showgrid: false }),
      plot_bgcolor: colour("plot"),
      annotations: namedLabels(), // Fixed margins: Plotly would leave twice the room that the colour bar takes.
      margin: { l: 58, r: 16, t: scaleRoom(scale), b: 52, autoexpand: false },
      shapes: selectedShapes(state.point),
      uirevision: "map",
    },
    { buttons: true },
  );
}

const nested = (values, map) =>
  values.map((value) => (Array.isArray(value) ? nested(value, map) : known(value) ? map(value) : ""));
const at = (point) => [points.gamma[point], points.gamma_prime[point]];
const placeText = (point) => `γ = ${exponent(points.gamma[point])}, γ′ = ${exponent(points.gamma_prime[point])}`;
const coloured = (scale) => ({ colorscale: scale.colours, showscale: false });

function cellTrace(scale) {
  if (!plane.cells.length) return null;
  const z = plane.cells.map((row) => row.map((point) => (point === null ? null : scale.values[point])));
  if (!z.flat().some(known)) return null; // Plotly would paint nothing, and no colour bar either.
  return {
    type: "heatmap",
    x: plane.edges[0],
    y: plane.edges[1],
    z,
    customdata: plane.cells,
    ...coloured(scale),
    showscale: Boolean(scale.ticks),
    zmin: scale.range[0],
    zmax: scale.range[1],
    hoverinfo: "text",
    hoverongaps: false,
  };
}

function scatteredTrace(scale, showBar) {
  const shown = plane.scattered.filter((point) => known(scale.values[point]));
  if (!shown.length) return null;
  const size = shown.length > 300 ? 8 : 11;
  return {
    ...places(shown),
    name: "scattered",
    mode: "markers",
    customdata: shown,
    hoverinfo: "text",
    marker: {
      size,
      color: shown.map((point) => scale.values[point]),
      cmin: scale.range[0],
      cmax: scale.range[1],
      ...coloured(scale),
      showscale: showBar && Boolean(scale.ticks),
      line: { width: 1, color: scale.colours === sequential ? "#ffffff" : "#1b1f24" },
    },
  };
}

function places(shown) {
  return { type: "scatter", x: shown.map((point) => points.gamma[point]), y: shown.map((point) => points.gamma_prime[point]) };
}

/** Crosses at points without a value, which can be chosen like the others. */
function missingTrace(scale) {
  const shown = points.gamma.map((_, point) => point).filter((point) => !known(scale.values[point]));
  if (!shown.length) return null;
  const marker = { symbol: "x-thin", size: 8, line: { width: 1.5, color: colour("quiet") } };
  return { ...places(shown), name: "missing", mode: "markers", customdata: shown, hoverinfo: "text", marker };
}

function keptTrace() {
  const shown = [...new Set(content.networks.map((network) => network.point))];
  const marker = { size: 6, color: "#ffffff", line: { width: 1.5, color: "#1b1f24" } };
  return { ...places(shown), mode: "markers", hoverinfo: "skip", marker };
}

function namedTrace() {
  const marker = { symbol: "diamond", size: 10, color: "#ffffff", line: { width: 1.5, color: "#1b1f24" } };
  const [x, y] = [0, 1].map((i) => content.named.map((named) => named.at[i]));
  return { type: "scatter", x, y, mode: "markers", hoverinfo: "skip", marker };
}

/** Names beside their points, every other one below: neighbours in a row would cover each other. */
function namedLabels() {
  const [left, right] = plane.limits[0];
  return content.named.map(({ names, at: [x, y] }, i) => ({
    x,
    y,
    text: names,
    showarrow: false,
    yshift: i % 2 ? -14 : 14,
    xanchor: x > (left + right) / 2 ? "right" : "left",
    bgcolor: "rgba(255,255,255,0.8)",
    borderpad: 1,
    font: { size: 10.5, color: "#1b1f24" },
  }));
}

/** The line as it is drawn, over a lighter one that sets it off from what is below. */
function haloed(line, dash, tint, width) {
  const common = { type: "scatter", mode: "lines", x: line.gamma, y: line.gamma_prime, hoverinfo: "skip", connectgaps: false };
  return [
    { ...common, line: { color: "rgba(255,255,255,0.85)", width: width + 2.5 } },
    { ...common, line: { color: tint, width, dash } },
  ];
}

/** The measured and the predicted lines of layers, those of the second one dotted where there are two. */
function lineTraces(layers, quantity) {
  const measured = layers.map((layer, i) => measuredLine(layer.measured[lineColumn(layer, quantity)], i ? "dot" : "solid"));
  const predicted = layers
    .filter((layer) => layer.predicted)
    .map((layer) => haloed(layer.predicted, "8px,5px", content.colours.predicted, 2.5));
  const pairs = [...measured, ...predicted];
  return [0, 1].flatMap((i) => pairs.map((pair) => pair[i]));
}

/** A crossing alone in its map is a tick. */
function measuredLine(line, dash) {
  const [below, above] = haloed(line, dash, "#000000", 2.5);
  if (line.gamma.filter(known).length !== 1) return [below, above];
  return [below, { ...above, mode: "markers", marker: { symbol: "line-ns", size: 22, line: { width: 3, color: "#000000" } } }];
}

/** The line whose band is on this map, if any. */
const bandLine = (layer, quantity) => (quantity === "combined" ? null : layer.measured[lineColumn(layer, quantity)]);

/** The 95 % band of a line, piece by piece where it is interrupted. */
function bandTraces(line) {
  if (!line) return [];
  const { gamma_prime: y, gamma_low: low, gamma_high: high } = line;
  const pieces = [[]];
  y.forEach((_, i) => (known(low[i]) && known(high[i]) ? pieces[pieces.length - 1].push(i) : pieces.push([])));
  return pieces
    .filter((piece) => piece.length > 1)
    .map((piece) => {
      const back = [...piece].reverse();
      return {
        type: "scatter",
        mode: "lines",
        x: [...piece.map((i) => low[i]), ...back.map((i) => high[i])],
        y: [...piece, ...back].map((i) => y[i]),
        fill: "toself",
        fillcolor: "rgba(90,90,90,0.28)",
        line: { width: 1, color: "#3b3b3b" },
        hoverinfo: "skip",
      };
    });
}

function selectedShapes(point) {
  if (!cellOf.has(point)) return [];
  const [i, j] = cellOf.get(point),
    [x, y] = plane.edges;
  const box = { type: "rect", x0: x[j], x1: x[j + 1], y0: y[i], y1: y[i + 1] };
  return [
    ["#ffffff", 6],
    ["#000000", 2.5],
  ].map(([color, width]) => ({ ...box, line: { color, width } }));
}

function selectedTraces(point) {
  if (point === null || cellOf.has(point)) return [];
  return [
    ["#ffffff", 5],
    ["#000000", 2.5],
  ].map(([color, width]) => ({
    ...places([point]),
    mode: "markers",
    hoverinfo: "skip",
    marker: { symbol: "circle-open", size: 18, color, line: { width } },
  }));
}

const scaleRoom = (scale) => (scale.ticks ? 66 : 10);

function colourBar(scale) {
  return {
    orientation: "h",
    x: 0.5,
    y: 1.01,
    yanchor: "bottom",
    len: 1,
    thickness: 11,
    ypad: 4,
    outlinewidth: 0,
    title: { text: scale.title, side: "top" },
    tickmode: "array",
    tickvals: scale.ticks.map(([value]) => value),
    ticktext: scale.ticks.map(([, text]) => text),
    tickangle: 0,
  };
}

function statusesAt(point) {
  const counts = content.statuses.map((status, i) => [content.ended[i][point], status]).filter(([count]) => count);
  return counts.map(([count, status]) => `${count} ${status}`).join(", ") || "no runs";
}

/** How many runs of a point have rows, where some are missing. */
function soFarText(point) {
  const there = content.ended.reduce((sum, counts) => sum + counts[point], 0);
  return there < content.planned[point] ? `${there} of ${plural(content.planned[point], "run")} so far` : "";
}

function slopeText(layer, column, point) {
  return interval(...["", "_low", "_high"].map((end) => layer.slopes[column + end][point]));
}

function regimeText(layer, point) {
  const [measured, predicted] = [layer.regime, layer.predicted_regime].map((codes) => regimes[codes[point]]);
  return (measured || "no regime") + (predicted ? `, predicted ${predicted}` : "");
}

/** What the cells show: the chosen measure, or a quantity of the relative change. */
function scaleOf(state) {
  const one = chosenMeasure(state);
  return one ? measureScale(one) : QUANTITIES[state.quantity].of(content.layers[state.layer], state.width);
}

function hoverText(layer, point, scale, state) {
  const one = chosenMeasure(state);
  if (one) return [placeText(point), soFarText(point), measureText(one, point)].filter(Boolean).map(plain).join("<br>");
  if (state.quantity === "combined") {
    const both = lineLayers(layer, "combined");
    const texts = both.map((one) => `${symbol(one.name)}: ${slopeText(one, one.deciding, point)}, ${regimeText(one, point)}`);
    return [placeText(point), ...texts].map(plain).join("<br>");
  }
  const lines = [placeText(point), soFarText(point), `S = ${slopeText(layer, "slope", point)}`].filter(Boolean);
  if (known(layer.slopes.slope_infinite[point])) lines.push(`m → ∞: ${slopeText(layer, "slope_infinite", point)}`);
  lines.push(regimeText(layer, point), `${plural(layer.runs[point], "run")} in the fit, ${layer.left_out[point]} left out`);
  if (QUANTITIES[state.quantity].wide && known(scale.values[point]))
    lines.push(`${scale.title}: ${digits(10 ** scale.values[point])}`);
  if (state.quantity === "status") lines.push(statusesAt(point));
  return lines.map(plain).join("<br>");
}

/** The next point in a direction (steps of gamma and of gamma_prime), rather straight ahead than aside. */
function neighbour(point, [right, up]) {
  const [x, y] = at(point);
  const spans = plane.limits.map(([low, high]) => high - low);
  let best = point,
    least = Infinity;
  points.gamma.forEach((gamma, other) => {
    const [dx, dy] = [(gamma - x) / spans[0], (points.gamma_prime[other] - y) / spans[1]];
    const ahead = dx * right + dy * up,
      aside = Math.abs(dx * up) + Math.abs(dy * right);
    if (ahead > 1e-9 && aside <= ahead * 2 && ahead + 3 * aside < least) [best, least] = [other, ahead + 3 * aside];
  });
  return best;
}
