// The selected snapshot: the network that was kept, and every run of the network.

function drawSnapshot(state) {
  const layer = layers[state.layer];
  const epoch = epochs[state.epoch];
  byId("cell-title").textContent = `${layerText(layer)}, epoch ${epoch}`;
  show("selected", seedsText(layer, state.epoch));
  drawNetwork(layer, state);
  drawRuns(layer, state);
  const { activations, dimension, std } = networks[layer.network];
  const columns = ["seed", "lines", "orientations", "aligned_fraction", "active_neurons", "loss", "status"];
  drawFiles({ activations, dimension, std, layer: layer.name, epoch }, columns, state.job);
}

/** How many seeds have which number of lines. */
function seedsText(layer, snapshot) {
  const { epoch, lines, count } = layer.counts;
  const found = lines.map((_, i) => i).filter((i) => epoch[i] === snapshot);
  const parts = found.map((i) => `${plural(lines[i], "line")} in ${plural(count[i], "seed")}`);
  return parts.length ? `${parts.join(", ")}.` : "No seed has a count of lines at this epoch.";
}

// The network that was kept.

function drawNetwork(layer, state) {
  const there = content.kept.filter(({ network }) => network === layer.network);
  const kept = there.find(({ id }) => id === state.job) || there[0];
  show("network-choice", ...(kept ? networkChoice(there, kept) : [make("p", {}, keptNowhere())]));
  byId("network").hidden = !kept;
  if (!kept) return;
  const of = kept.layers[layer.name];
  const at = of ? of.snapshots.indexOf(state.epoch) : -1;
  drawProducts(at < 0 ? null : of.products[at], layer);
  drawFunction(kept, state.epoch, layer, at);
  drawLoss(kept, state);
}

function keptNowhere() {
  return content.kept.length
    ? "None with these activations, d and std."
    : "None in this study; [samples] in the spec chooses them.";
}

function networkChoice(there, kept) {
  const text = ({ seed, status }) => `seed ${seed}, ${status}`;
  if (there.length === 1) return [make("p", {}, text(kept))];
  const select = make("select", { "aria-label": "Network" });
  setOptions(
    select,
    there.map((one) => [one.id, text(one)]),
    kept.id,
  );
  select.addEventListener("change", () => update({ job: select.value }));
  return [select];
}

/** The matrix of inner products, whose upper triangle comes as bytes. */
function matrixOf({ neurons, cosines }) {
  const bytes = Int8Array.from(atob(cosines), (letter) => letter.charCodeAt(0));
  const matrix = Array.from({ length: neurons }, () => new Array(neurons).fill(1));
  let next = 0;
  for (let i = 0; i < neurons; i += 1)
    for (let j = i + 1; j < neurons; j += 1) matrix[i][j] = matrix[j][i] = Math.round(bytes[next++] / 1.27) / 100;
  return matrix;
}

function drawProducts(products, layer) {
  const shown = products !== null && products.neurons > 0;
  announce("products", shown, "Inner products of the input weights of the active neurons, ordered by line");
  byId("products-text").textContent = products === null ? "The network did not reach this epoch." : productsText(products, layer);
  if (!shown) return;
  const z = matrixOf(products);
  const edge = { type: "line", line: { color: "#000000", width: 1 } };
  const end = products.neurons - 0.5;
  const edges = products.edges.filter((at) => at > 0 && at < products.neurons).map((at) => at - 0.5);
  const cells = {
    type: "heatmap",
    z,
    zmin: -1,
    zmax: 1,
    colorscale: content.diverging.map((shade, i, all) => [i / (all.length - 1), shade]),
    hoverinfo: "text",
    text: z.map((row, i) => row.map((value, j) => plain(`D(${i + 1}, ${j + 1}) = ${minus(value.toFixed(2))}`))),
    colorbar: { title: { text: "D(u, v)", side: "right" }, thickness: 11, outlinewidth: 0, tickvals: [-1, -0.5, 0, 0.5, 1] },
  };
  const side = { range: [-0.5, end], constrain: "domain", showgrid: false, showline: false, ticks: "", showticklabels: false };
  draw("products", [cells], {
    xaxis: axis("active neurons, ordered by line", { ...side, title: { text: "active neurons, ordered by line", standoff: 8 } }),
    yaxis: axis("", { ...side, range: [end, -0.5], scaleanchor: "x" }),
    shapes: edges.flatMap((at) => [
      { ...edge, x0: at, x1: at, y0: -0.5, y1: end },
      { ...edge, x0: -0.5, x1: end, y0: at, y1: at },
    ]),
    margin: { l: 14, r: 14, t: 8, b: 34 },
  });
}

function productsText({ neurons, active, edges, aligned }, layer) {
  if (!active) return "No neuron is active.";
  const on = aligned >= content.condensed ? plural(edges.length, "line") : "a line";
  const part = neurons < active ? ` ${neurons} of them are shown.` : "";
  return `${active} of ${plural(layer.hidden, "neuron")} are active, ${percent(aligned)} of them on ${on}.${part}`;
}

function drawFunction(kept, snapshot, layer, at) {
  announce("function", kept.x.length > 0, "The function of the network at this epoch, with the data");
  if (!kept.x.length) return;
  const { x } = kept;
  const curve = (name, y, tint, dash) => ({
    type: "scatter",
    mode: "lines",
    name,
    x,
    y,
    line: { color: colour(tint), width: 2, dash },
  });
  const traces = at < 0 ? [] : [curve(`epoch ${epochs[snapshot]}`, kept.functions[at], "accent", "solid")];
  const polynomial = kept.polynomials[at];
  if (polynomial) {
    const value = (place) => polynomial.reduceRight((sum, coefficient) => sum * place + coefficient, 0);
    traces.push(curve(`polynomial, degree ${layer.multiplicity}`, x.map(value), "second", "dash"));
  }
  if (kept.data) {
    const height = (values) => Math.max(...values) - Math.min(...values);
    // Beside the data, a function that is still small would be a flat line; a click in the legend shows them.
    const visible = at >= 0 && height(kept.functions[at]) < 0.2 * height(kept.data.y) ? "legendonly" : true;
    const marker = { color: colour("text"), size: 5 };
    traces.push({ type: "scatter", mode: "markers", name: "data", x: kept.data.x, y: kept.data.y, marker, visible });
  }
  draw("function", traces, {
    xaxis: axis("x"),
    yaxis: axis("f(x)", { exponentformat: "power" }),
    showlegend: true,
    margin: { l: 56, r: 10, t: 52, b: 48 },
  });
}

function drawLoss(kept, state) {
  if (!kept.losses.length) return announce("loss", false);
  const first = Math.max(lastEpoch / 1000, 1);
  const course = [kept.epochs.map((epoch) => placeOf(epoch, first)), kept.losses];
  const shapes = [snapshotLine(placeOf(epochs[state.epoch], first))];
  return drawCourses("loss", { loss: course }, epochAxis("loss", first), "loss", { shapes });
}

// Runs.

function drawRuns(layer, state) {
  if (!jobs) return show("cell-runs", make("p", {}, noRuns()));
  const { lines, aligned_fraction: aligned, active_neurons: active } = jobs.layers[layer.name];
  const number = (value) => (known(value) ? String(value) : "–");
  const rows = jobs.id.map((id, job) => [
    jobButton(id, state),
    String(jobs.seed[job]),
    number(lines[job][state.epoch]),
    percent(aligned[job][state.epoch]),
    number(active[job][state.epoch]),
    digits(jobs.loss[job][state.epoch], 3),
    statusCell(jobs, job),
  ]);
  const columns = ["run", "seed", "lines", "on lines", "active", "loss", "status"];
  return show("cell-runs", makeTable(columns, rows, { words: ["status"] }));
}

function jobButton(job, state) {
  return runButton(job, "run", () => update({ job }), { "aria-pressed": String(job === state.job) });
}
