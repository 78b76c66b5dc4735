// The state of the page, and what changes it: selectors, clicks, keys, the address.

const state = { measure: "", layer: 0, quantity: "slope", width: 0, point: null, job: null, network: 0 };

/** Changes the state, draws what depends on it, and keeps it in the address. */
function update(changes) {
  Object.assign(state, changes);
  takeRuns(cell(), () => update({}));
  if (jobs && !jobs.id.includes(state.job)) state.job = jobs.id[0] ?? null;
  if (!available().includes(state.quantity)) state.quantity = "slope";
  followMeasure(state);
  keep(view());
  render();
}

const cell = () => content.cells[state.point];

function choose(point, changes = {}) {
  update({ point, job: null, network: 0, ...changes });
}

function available() {
  return Object.keys(QUANTITIES).filter((key) => !QUANTITIES[key].there || QUANTITIES[key].there(content.layers[state.layer]));
}

function render() {
  const one = chosenMeasure(state);
  renderMeasure(one);
  setOptions(
    byId("layer"),
    content.layers.map(({ name }, i) => [i, symbol(name), name]).filter(([, , name]) => !one || name in one.layers),
    state.layer,
  );
  setOptions(
    byId("quantity"),
    available().map((key) => [key, QUANTITIES[key].name]),
    state.quantity,
  );
  setOptions(
    byId("width"),
    content.widths.map((width, i) => [i, widthText(width)]),
    state.width,
  );
  byId("quantity-label").hidden = Boolean(one);
  byId("width-label").hidden = Boolean(one) || !QUANTITIES[state.quantity].wide;
  renderPoint();
  drawMap(state);
  drawLegend(state);
  drawSummary(state);
  drawCell(state);
}

function renderPoint() {
  const [gamma, prime] = state.point === null ? [null, null] : at(state.point);
  const sorted = (values) => [...new Set(values)].sort((a, b) => a - b).map((value) => [value, exponent(value)]);
  setOptions(byId("gamma"), sorted(points.gamma), gamma);
  setOptions(byId("gamma-prime"), sorted(points.gamma_prime.filter((_, i) => points.gamma[i] === gamma)), prime);
  const layer = content.layers[state.layer];
  show("selected", state.point === null ? "" : selectedText(layer));
}

function selectedText(layer) {
  const one = chosenMeasure(state);
  if (one) return `${placeText(state.point)}, ${measureText(one, state.point)}.`;
  const limit = known(layer.slopes.slope_infinite[state.point])
    ? `, at m → ∞ ${slopeText(layer, "slope_infinite", state.point)}`
    : "";
  return `${placeText(state.point)}, ${symbol(layer.name)}: S = ${slopeText(layer, "slope", state.point)}${limit}; ${regimeText(layer, state.point)}.`;
}

/** The point at this gamma whose gamma_prime is nearest to the one wanted. */
function nearest(gamma, prime) {
  const there = points.gamma.map((_, i) => i).filter((i) => points.gamma[i] === gamma);
  return there.reduce(
    (best, i) => (Math.abs(points.gamma_prime[i] - prime) < Math.abs(points.gamma_prime[best] - prime) ? i : best),
    there[0],
  );
}

// The address.

function view() {
  const shown = { layer: content.layers[state.layer].name, quantity: state.quantity, width: content.widths[state.width] };
  if (content.measures.length) shown.measure = chosenMeasure(state)?.name ?? "";
  if (state.point !== null) [shown.gamma, shown.gamma_prime] = at(state.point);
  return shown;
}

/** The state that the address names, as far as there is such a thing here. */
function fromAddress() {
  const view = new URLSearchParams(location.hash.slice(1));
  const found = {};
  const layer = content.layers.findIndex(({ name }) => name === view.get("layer"));
  const width = content.widths.indexOf(Number(view.get("width")));
  const point = points.gamma.findIndex(
    (gamma, i) => String(gamma) === view.get("gamma") && String(points.gamma_prime[i]) === view.get("gamma_prime"),
  );
  if (view.has("measure")) found.measure = view.get("measure");
  if (layer >= 0) found.layer = layer;
  if (Object.hasOwn(QUANTITIES, view.get("quantity"))) found.quantity = view.get("quantity");
  if (width >= 0) found.width = width;
  if (point >= 0) found.point = point;
  return found;
}

function subtitle() {
  const kind = content.depth ? "Phase diagram" : "Torch modules"; // whose depth is not counted
  const depth = ["two", "three", "four", "five", "six", "seven", "eight"][content.depth - 2] ?? content.layers.length;
  const size = [plural(points.gamma.length, "point"), plural(content.widths.length, "width"), plural(content.runs, "run")];
  return `${kind}, ${depth} layers: ${size.join(", ")}`;
}

// Wiring.

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Enter") byId("cell-title").focus();
  else if (event.key in STEPS) choose(state.point === null ? 0 : neighbour(state.point, STEPS[event.key]));
  else return;
  event.preventDefault();
}

function wire() {
  onChange("measure", (value) => update({ measure: value }));
  onChange("layer", (value) => update({ layer: Number(value) }));
  onChange("quantity", (value) => update({ quantity: value }));
  onChange("width", (value) => update({ width: Number(value) }));
  onChange("gamma", (value) => choose(nearest(Number(value), points.gamma_prime[state.point])));
  onChange("gamma-prime", (value) => choose(nearest(points.gamma[state.point], Number(value))));
  byId("to-cell").addEventListener("click", () => byId("cell-title").focus());
  byId("map").addEventListener("keydown", onKey);
  onPoint.map = choose;
  onPoint.scaling = (job) => update({ job });
  addEventListener("hashchange", () => update(fromAddress()));
}

const failed = {
  columns: ["γ", "γ′", "m", "seed"],
  cells(job) {
    const { point, width, seed } = content.failures.listed;
    return [...at(point[job]).map(exponent), widthText(content.widths[width[job]]), String(seed[job])];
  },
  see(job) {
    const { point, id } = content.failures.listed;
    choose(point[job], { job: id[job] });
    byId("cell-title").focus();
  },
};

setKind({
  plot: "map",
  scale,
  share,
  subtitle,
  failed,
  cell,
  receive,
  render,
  again: () => update(fromAddress()),
  begin() {
    const quantity = content.layers[0].slopes.slope.some(known) ? "slope" : "change"; // There are slopes only once there are two widths.
    const there = points.gamma.findIndex((_, point) => content.ended.some((counts) => counts[point]));
    const point = content.networks.length ? content.networks[0].point : there;
    update({ point, quantity, width: content.widths.length - 1, ...fromAddress() });
    wire();
  },
});
