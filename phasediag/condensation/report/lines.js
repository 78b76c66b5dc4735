// The layers: what is measured of all seeds at every snapshot, and the summary of each layer.

let epochs, networks, layers;

function receive() {
  ({ epochs, networks, layers } = content);
  firstEpoch = epochs.find((epoch) => epoch > 0) || 1;
  lastEpoch = Math.max(firstEpoch, ...epochs);
}

// Epochs from 0 on a logarithmic axis, which is linear up to the first one.

const ZERO = 0.4; // how far 0 is from the first epoch, in decades
let firstEpoch, lastEpoch;

function placeOf(epoch, first = firstEpoch) {
  return epoch <= first ? (ZERO * epoch) / first : ZERO + Math.log10(epoch / first);
}

/** The axis of epochs of a plot; `first` is where it becomes logarithmic. */
function epochAxis(id, first = firstEpoch) {
  const decades = logTicks(Math.log10(first), Math.log10(lastEpoch));
  const ticks = [[0, "0"], ...decades.map(([power, text]) => [ZERO + power - Math.log10(first), text])];
  const end = placeOf(lastEpoch, first);
  const room = 0.03 * (1 + end);
  return axis("epoch", { range: [-room, end + room], ...spacedTicks(id, ticks, end + 2 * room) });
}

/** A line at the selected snapshot. */
function snapshotLine(place) {
  const line = { color: colour("quiet"), width: 1.5, dash: "dot" };
  return { type: "line", x0: place, x1: place, yref: "paper", y0: 0, y1: 1, line };
}

// Names and numbers.

const percent = (share) => (known(share) ? `${Math.round(100 * share)} %` : "–");
const boundText = ({ multiplicity }) => (multiplicity ? `p = ${multiplicity}` : "no p");
const several = (values) => new Set(values).size > 1;

/** A scale of initial weights: very small ones by their power of ten. */
function stdText(std) {
  const [value, power] = std.toExponential().split("e");
  return std >= 1e-3 ? String(std) : `${value === "1" ? "" : value + "·"}10${raised(power)}`;
}

/** A layer among those of its study. */
function layerText(layer) {
  const network = networks[layer.network];
  const parts = [several(layers.map(({ name }) => name)) ? `${layer.name}: ${layer.activation}` : layer.activation];
  if (several(networks.map(({ activations }) => activations)) && network.title !== layer.activation) parts.unshift(network.title);
  if (several(networks.map(({ dimension }) => dimension))) parts.push(`d = ${network.dimension}`);
  if (several(networks.map(({ std }) => std))) parts.push(`std ${stdText(network.std)}`);
  return parts.join(", ");
}

// The summary.

const COLUMNS = {
  p: ({ multiplicity }) => (multiplicity ? String(multiplicity) : "–"),
  seeds: ({ summary }) => String(summary.seeds),
  condensed: ({ summary }) => rangeText(summary),
  "at epoch": ({ summary }) => (known(summary.epoch) ? String(summary.epoch) : "–"),
  lines: ({ summary }) => (known(summary.lines) ? `${summary.lines} (${percent(summary.share)})` : "–"),
  "≤ p": ({ summary }) => percent(summary.within_bound),
  "on lines": ({ summary }) => percent(summary.aligned_fraction),
  active: ({ summary, hidden }) => (known(summary.active_neurons) ? `${summary.active_neurons} of ${hidden}` : "–"),
  flow: ({ summary }) => percent(summary.predicted_fraction),
  sign: ({ summary }) => percent(summary.sign_fraction),
};

const rangeText = ({ first, last }) => (!known(first) ? "never" : first === last ? String(first) : `${first}–${last}`);

function drawSummary(state) {
  const rows = layers.map((layer, i) => {
    const pressed = String(i === state.layer);
    const button = make("button", { type: "button", "aria-pressed": pressed, onclick: () => choose(i) }, layerText(layer));
    return [button, ...Object.values(COLUMNS).map((text) => text(layer))];
  });
  show("summary", makeTable(["layer", ...Object.keys(COLUMNS)], rows));
  byId("condensed").textContent = percent(content.condensed);
}

// Lines against epochs.

function drawLines(state) {
  const layer = layers[state.layer];
  const { epoch, lines, count } = layer.counts;
  const seeds = epochs.map((_, k) => count.reduce((sum, number, i) => (epoch[i] === k ? sum + number : sum), 0));
  const most = Math.max(layer.multiplicity, ...lines, 1);
  const share = lines.map((_, i) => count[i] / seeds[epoch[i]]);
  announce("lines", true, `Number of lines of ${layerText(layer)} at every snapshot; ${summaryText(layer)}`);
  const dots = {
    type: "scatter",
    mode: "markers",
    x: epoch.map((k) => placeOf(epochs[k])),
    y: lines,
    customdata: epoch,
    hoverinfo: "text",
    text: lines.map((number, i) =>
      plain(
        `epoch ${epochs[epoch[i]]}: ${plural(number, "line")}, ${count[i]} of ${seeds[epoch[i]]} seeds (${percent(share[i])})`,
      ),
    ),
    marker: {
      color: colour("accent"),
      opacity: 1,
      size: share.map((one) => Math.max(15 * Math.sqrt(one), 3)),
      line: { width: 0 },
    },
  };
  const bound = { type: "line", xref: "paper", x0: 0, x1: 1, y0: layer.multiplicity, y1: layer.multiplicity };
  draw("lines", [dots], {
    xaxis: epochAxis("lines"),
    yaxis: axis("lines", { range: [-0.6, most + 0.7], dtick: Math.ceil(most / 8), tick0: 0 }),
    shapes: [
      ...condensedShapes(layer),
      ...(layer.multiplicity ? [{ ...bound, line: { color: colour("second"), width: 1.5 } }] : []),
      snapshotLine(placeOf(epochs[state.epoch])),
    ],
    margin: { l: 52, r: 10, t: 10, b: 48 },
  });
  drawLegend(layer);
}

/** The snapshots at which half of the seeds have condensed, as areas. */
function condensedShapes(layer) {
  const yes = layer.condensed.map((share) => share >= 0.5);
  const starts = yes.flatMap((one, k) => (one && !yes[k - 1] ? [k] : []));
  const ends = yes.flatMap((one, k) => (one && !yes[k + 1] ? [k] : []));
  const area = { type: "rect", yref: "paper", y0: 0, y1: 1, layer: "below", line: { width: 0 }, fillcolor: colour("note") };
  return starts.map((start, i) => ({ ...area, x0: placeOf(epochs[start]) - 0.02, x1: placeOf(epochs[ends[i]]) + 0.02 }));
}

function drawLegend(layer) {
  const items = [[sample("dot", colour("accent"), "none"), "seeds with this number (area: share)"]];
  if (layer.multiplicity) items.push([sample("line", colour("second"), "none"), `bound: p = ${layer.multiplicity}`]);
  if (condensedShapes(layer).length) items.push([swatch(colour("note")), "half of the seeds condensed"]);
  showLegend("legend", items);
}

const LOOKS = {
  aligned_fraction: ["accent", "solid", "line"],
  predicted_fraction: ["text", "dot", "dots"],
  sign_fraction: ["second", "dash", "dashes"],
};

/** Shares of active neurons, median and quartiles of the seeds. */
function drawShares(state) {
  const layer = layers[state.layer];
  announce("shares", Object.keys(layer.shares).length > 0, `Shares of active neurons of ${layerText(layer)} at every snapshot`);
  const traces = Object.entries(layer.shares).flatMap(([column, [low, middle, high]]) => {
    const [tint, dash] = LOOKS[column];
    const there = epochs.map((_, k) => k).filter((k) => known(middle[k]));
    const x = there.map((k) => placeOf(epochs[k]));
    const curve = { type: "scatter", mode: "lines" };
    const band = { ...curve, x: [...x, ...[...x].reverse()], fill: "toself", hoverinfo: "skip" };
    const edge = [...there.map((k) => low[k]), ...[...there].reverse().map((k) => high[k])];
    return [
      { ...band, y: edge, line: { width: 0 }, fillcolor: colour(tint), opacity: 0.18 },
      {
        ...curve,
        x,
        y: there.map((k) => middle[k]),
        line: { color: colour(tint), width: 2, dash },
        hoverinfo: "text",
        text: there.map((k) => plain(`epoch ${epochs[k]}: ${percent(middle[k])} ${content.shares[column]}`)),
      },
    ];
  });
  draw("shares", traces, {
    xaxis: epochAxis("shares"),
    yaxis: axis("active neurons", { range: [-0.03, 1.03], tickformat: ".0%", dtick: 0.25 }),
    shapes: [...condensedShapes(layer), snapshotLine(placeOf(epochs[state.epoch]))],
    margin: { l: 60, r: 10, t: 10, b: 48 },
  });
  const items = Object.keys(layer.shares).map((column) => [
    sample(LOOKS[column][2], colour(LOOKS[column][0]), "none"),
    content.shares[column],
  ]);
  showLegend("shares-legend", items);
}

/** When a layer condenses, in a sentence. */
function summaryText(layer) {
  const { epoch, lines, share, seeds } = layer.summary;
  const range = rangeText(layer.summary);
  const when = range === "never" ? "never condensed" : `condensed at ${range.includes("–") ? "epochs" : "epoch"} ${range}`;
  if (!known(epoch)) return `${boundText(layer)}; no seed has a count of lines.`;
  const found = `${plural(lines, "line")} in ${percent(share)} of ${plural(seeds, "seed")}`;
  return `${boundText(layer)}; ${when}. The share of neurons on lines is largest at epoch ${epoch}, with ${found}.`;
}
