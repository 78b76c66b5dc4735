// The state of the page, and what changes it: selectors, clicks, the slider of snapshots, the address.

const state = { layer: 0, epoch: 0, job: null };

/** Changes the state, draws what depends on it, and keeps it in the address. */
function update(changes) {
  Object.assign(state, changes);
  const { network } = layers[state.layer];
  takeRuns(cell(), () => update({}));
  if (jobs && !jobs.id.includes(state.job)) state.job = jobs.id[0] ?? null;
  const { activations, dimension, std } = networks[network];
  keep({ activations, dimension, std, layer: layers[state.layer].name, epoch: epochs[state.epoch] });
  render();
}

const cell = () => content.cells[layers[state.layer].network];

/** Shows a layer where most of its neurons are on lines. */
function choose(layer, changes = {}) {
  const best = epochs.indexOf(layers[layer].summary.epoch);
  update({ layer, epoch: Math.max(best, 0), ...changes });
}

function render() {
  renderChoice();
  drawSummary(state);
  drawLines(state);
  drawShares(state);
  show("lines-text", `${layerText(layers[state.layer])}: ${summaryText(layers[state.layer])}`);
  drawSnapshot(state);
}

const CHOICES = {
  activations: ({ network }) => [networks[network].activations, networks[network].title],
  dimension: ({ network }) => [networks[network].dimension, String(networks[network].dimension)],
  std: ({ network }) => [networks[network].std, stdText(networks[network].std)],
  layer: ({ name, activation }) => [name, `${name}: ${activation}`],
};

/** What the layers of the study differ by; without a selector, in what all are the same. */
function renderChoice() {
  for (const [id, of] of Object.entries(CHOICES)) {
    const there = id === "layer" ? layers.filter(({ network }) => network === layers[state.layer].network) : layers;
    const options = [...new Map(there.map(of))];
    const sorted = id === "activations" || id === "layer" ? options : options.sort(([a], [b]) => a - b);
    setOptions(byId(id), sorted, of(layers[state.layer])[0]);
    byId(id).parentElement.hidden = options.length < 2;
  }
  byId("choice").hidden = layers.length < 2;
  const slider = byId("epoch");
  slider.max = epochs.length - 1;
  slider.value = state.epoch;
  slider.setAttribute("aria-valuetext", `epoch ${epochs[state.epoch]}`);
  byId("epoch-text").textContent = epochs[state.epoch];
}

/** The layer that has this value, and else most in common with the selected one. */
function like(id, value) {
  const common = (layer) =>
    Object.entries(CHOICES).filter(([other, of]) => (other === id ? false : of(layer)[0] === of(layers[state.layer])[0])).length;
  const there = layers.map((_, i) => i).filter((i) => String(CHOICES[id](layers[i])[0]) === value);
  return there.reduce((best, i) => (common(layers[i]) > common(layers[best]) ? i : best), there[0]);
}

/** The state that the address names, as far as there is such a thing here. */
function fromAddress() {
  const view = new URLSearchParams(location.hash.slice(1));
  const layer = layers.findIndex((one) => Object.entries(CHOICES).every(([id, of]) => String(of(one)[0]) === view.get(id)));
  const epoch = epochs.indexOf(Number(view.get("epoch") ?? NaN));
  return [layer, epoch < 0 ? {} : { epoch }];
}

function subtitle() {
  const text = [
    plural(networks.length, "network"),
    plural(content.seeds, "seed"),
    plural(epochs.length, "snapshot"),
    plural(content.runs, "run"),
  ];
  return `Condensation, ${content.methods.join(", ")}: ${text.join(", ")}`;
}

const failed = {
  columns: ["activation", "d", "std", "seed"],
  cells(job) {
    const { network, seed } = content.failures.listed;
    const { title, dimension, std } = networks[network[job]];
    return [title, String(dimension), stdText(std), String(seed[job])];
  },
  see(job) {
    const { network, id } = content.failures.listed;
    const layer = layers.findIndex((one) => one.network === network[job]);
    choose(layer, { job: id[job] });
    byId("cell-title").focus();
  },
};

setKind({
  plot: "lines",
  subtitle,
  failed,
  cell,
  receive,
  render,
  again() {
    const [layer, changes] = fromAddress();
    update({ layer: Math.max(layer, 0), ...changes });
  },
  begin() {
    const show = ([layer, changes]) => choose(Math.max(layer, 0), layer < 0 ? {} : changes);
    show(fromAddress());
    for (const id of Object.keys(CHOICES)) onChange(id, (value) => update({ layer: like(id, value) }));
    onChange("epoch", (value) => update({ epoch: Number(value) }));
    onPoint.lines = (epoch) => update({ epoch });
    addEventListener("hashchange", () => show(fromAddress()));
  },
});
