// Measures other than the relative change: their maps and lines, and their numbers at a point.

/** The chosen measure, with what it has of the chosen layer, or of the network; null of the relative change. */
function chosenMeasure(state) {
  const measure = content.measures.find(({ name }) => name === state.measure);
  if (!measure) return null;
  const names = Object.keys(measure.layers);
  const chosen = content.layers[state.layer].name;
  const layer = names.includes(chosen) ? chosen : names[0];
  return ofLayer(measure, layer);
}

const ofLayer = (measure, layer) => ({ ...measure, layer, ...measure.layers[layer] });

/** Chooses a layer that the measure has. */
function followMeasure(state) {
  const one = chosenMeasure(state);
  const layer = content.layers.findIndex(({ name }) => name === one?.layer);
  if (layer >= 0) state.layer = layer;
}

function renderMeasure(one) {
  const names = content.measures.map(({ name, words }) => [name, words]);
  byId("measure-label").hidden = !content.measures.length;
  byId("layer-label").hidden = one?.layer === "network";
  setOptions(byId("measure"), [["", "relative change"], ...names], one?.name ?? "");
}

const isSlope = (one) => "column" in one;
const whose = (one) => one.words + (one.layer === "network" ? "" : ` of ${symbol(one.layer)}`);
const limitText = (one) => (one.column === "slope_infinite" ? " at m → ∞" : "");

function measureScale(one) {
  if (isSlope(one)) return signedScale(one.values, one.limit, `S = d log (${whose(one)}) / d log m${limitText(one)}`);
  const title = `${whose(one)} at m = ${widthText(one.width)}`;
  return one.is_logarithmic ? decadeScale(one.values, one.range, title) : evenScale(one.values, one.range, title);
}

function evenScale(values, range, title) {
  const [low, high] = ends(range);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => low + part * (high - low));
  const above = values.some((value) => known(value) && value > high * (1 + 1e-6));
  return {
    values,
    colours: sequential,
    range: [low, high],
    title,
    ticks: ticks.map((tick, i) => [tick, (above && i === 4 ? "≥ " : "") + digits(tick, 2)]),
  };
}

/** The lines of the rule on the map of a measure: those of its layer in both norms, or of all layers. */
const rulesOf = (one) => content.rule.filter(({ layers }) => one.layer === "network" || layers.includes(one.layer));

function measureLines(one) {
  const pairs = rulesOf(one).map((line) => haloed(line, line.dash, line.colour, 2.5));
  if (isSlope(one)) pairs.unshift(...one.lines.map((line) => measuredLine(line, "solid")));
  return [0, 1].flatMap((i) => pairs.map((pair) => pair[i]));
}

const measureBands = (one) => (one.lines ?? []).flatMap(bandTraces);

function measureItems(one) {
  const items = rulesOf(one).map(({ name, colour }) => [sample("dashes", colour), `rule: ${symbol(name)}`]);
  if (measureBands(one).length) items.unshift([sample("band", "#3b3b3b"), "95 % band"]);
  if (one.lines?.some((line) => line.gamma.some(known)))
    items.unshift([sample("line", "#000000"), `measured, S = 0${limitText(one)}`]);
  return items;
}

/** A measure at a point, in words. */
function measureText(one, point) {
  if (isSlope(one)) return `${whose(one)}: S${limitText(one)} = ${measureNumber(one, point)}`;
  return `${whose(one)} at m = ${widthText(one.width)}: ${measureNumber(one, point)}`;
}

const measureNumber = (one, point) =>
  isSlope(one) ? interval(one.values[point], one.low[point], one.high[point]) : digits(one.values[point], 3);

/** All measures of the selected point. */
function drawMeasures(point) {
  const all = content.measures.flatMap((measure) => Object.keys(measure.layers).map((layer) => ofLayer(measure, layer)));
  const rows = all.map((one) => [
    whose(one),
    isSlope(one) ? `S${limitText(one)}` : `at m = ${widthText(one.width)}`,
    measureNumber(one, point),
  ]);
  show(
    "cell-measures",
    ...(rows.length ? [makeTable(["measure", "shown", "value (95 %)"], rows, { words: ["measure", "shown"] })] : []),
  );
}

/** What the map of a measure shows, in a sentence or two. */
function measureSummary(one) {
  if (!one.regimes) return "";
  const total = Object.values(one.regimes).reduce((sum, count) => sum + count, 0);
  const parts = regimes.filter((regime) => one.regimes[regime]).map((regime) => `${one.regimes[regime]} ${regime}`);
  const first = `By ${whose(one)}, of ${plural(total, "point")}, ${parts.join(", ")}.`;
  const near = Object.entries(one.distances)
    .filter(([, { rows }]) => rows)
    .map(([name, { mean }]) => `${decimals(mean)} from that of ${symbol(name)}`);
  return near.length ? `${first} The line S = 0 is, in γ and in the mean, ${near.join(", ")}.` : first;
}
