// The selected point: slopes of every layer, RD against the width, every run, and the network that was kept.

function drawCell(state) {
  byId("cell").hidden = state.point === null;
  if (state.point === null) return;
  const layer = content.layers[state.layer];
  const [gamma, prime] = at(state.point);
  byId("cell-title").textContent = placeText(state.point);
  drawSlopes(state.point);
  drawMeasures(state.point);
  drawScaling(layer, state.point);
  drawRuns(layer, state);
  drawNetwork(layer, state);
  const columns = ["width", "seed", "relative_change", "loss_initial", "loss_final", "evaluations", "status"];
  drawFiles({ layer: layer.name, gamma, gamma_prime: prime }, columns, state.job);
}

function drawSlopes(point) {
  const limit = content.layers.some((layer) => layer.slopes.slope_infinite.some(known));
  const left = content.layers.some((layer) => layer.left_out[point]);
  const columns = [
    "layer",
    "S (95 %)",
    ...(limit ? ["m → ∞ (95 %)"] : []),
    "regime",
    ...(content.depth ? ["predicted"] : []),
    "runs",
    ...(left ? ["left out"] : []),
  ];
  const rows = content.layers.map((layer) => [
    symbol(layer.name),
    slopeText(layer, "slope", point),
    ...(limit ? [slopeText(layer, "slope_infinite", point)] : []),
    regimes[layer.regime[point]] || "–",
    ...(content.depth ? [regimes[layer.predicted_regime[point]] || "–"] : []),
    String(layer.runs[point]),
    ...(left ? [String(layer.left_out[point])] : []),
  ]);
  show("cell-slopes", makeTable(columns, rows));
}

// Relative change against the width.

/** What is known of the relative change at a point: of every run, or the mean at every width where the runs are not there. */
function changesAt(layer, point) {
  const run = (job) => ({
    width: widthOf(job),
    change: jobs.change[layer.name][job],
    used: jobs.usable[layer.name][job],
    job: jobs.id[job],
    text: `seed ${jobs.seed[job]}, ${content.statuses[jobs.status[job]]}`,
  });
  const mean = (width, i) => ({ width, change: layer.change.values[i][point], used: true, text: "mean" });
  return (jobs ? jobs.id.map((_, job) => run(job)) : content.widths.map(mean)).filter(
    ({ change }) => known(change) && change > 0,
  );
}

function drawScaling(layer, point) {
  const there = changesAt(layer, point);
  const [used, rest] = [true, false].map((yes) => there.filter((one) => Boolean(one.used) === yes));
  const description = `Relative change of ${symbol(layer.name)} against the width, ${plural(layer.runs[point], "run")}: S = ${slopeText(layer, "slope", point)}`;
  announce("scaling", there.length > 0, description);
  byId("scaling-text").textContent = there.length
    ? scalingText(layer, point, rest.length)
    : "No run of this point has a relative change.";
  if (!there.length) return;
  const fitted = fittedTraces(layer, point, used);
  const traces = [
    ...fitted,
    changeTrace(used, { color: colour("accent"), size: 7 }),
    changeTrace(rest, { symbol: "circle-open", color: colour("second"), size: 8, line: { width: 1.5 } }),
  ];
  draw("scaling", traces, {
    xaxis: axis("width m", widthTicks()),
    yaxis: axis(
      `relative change RD(${symbol(layer.name)})`,
      logAxis([...there.map(({ change }) => change), ...fitted.flatMap((trace) => trace.y)]),
    ),
    margin: { l: 68, r: 14, t: 12, b: 52 },
  });
}

function scalingText(layer, point, left) {
  const dots = jobs ? "Every run is a point" : "Every point is the mean of the runs of a width";
  const shown = [dots];
  if (known(layer.slopes.slope[point])) shown.push(`the line has the slope S = ${slopeText(layer, "slope", point)}`);
  if (known(layer.slopes.slope_infinite[point]))
    shown.push(`the fan beyond the largest width shows m → ∞, ${slopeText(layer, "slope_infinite", point)}`);
  return shown.join("; ") + "." + (left ? ` Open markers: ${plural(left, "run")} that the fit leaves out.` : "");
}

const widthOf = (job) => content.widths[jobs.width[job]];

function changeTrace(shown, marker) {
  return {
    type: "scatter",
    mode: "markers",
    x: shown.map(({ width }) => width),
    y: shown.map(({ change }) => change),
    customdata: shown.map(({ job }) => job),
    marker,
    hoverinfo: "text",
    text: shown.map(({ width, change, text }) => plain(`m = ${widthText(width)}, ${text}: RD = ${digits(change)}`)),
  };
}

/** The fitted line through the mean of the logarithms, and the slope at infinite width as a fan beyond the largest width. */
function fittedTraces(layer, point, used) {
  const [slope, limit, low, high] = ["slope", "slope_infinite", "slope_infinite_low", "slope_infinite_high"].map(
    (column) => layer.slopes[column][point],
  );
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const log = ({ change }) => Math.log(change);
  const line = { type: "scatter", mode: "lines", hoverinfo: "skip", line: { color: colour("accent"), width: 2 } };
  if (!known(slope) || !used.length) return [];
  const widths = used.map(({ width }) => width);
  const x = [Math.min(...widths), Math.max(...widths)];
  const [centre, level] = [mean(widths.map(Math.log)), mean(used.map(log))];
  const traces = [{ ...line, x, y: x.map((width) => Math.exp(level + slope * (Math.log(width) - centre))) }];
  if (!known(limit)) return traces;
  const last = Math.exp(mean(used.filter(({ width }) => width === x[1]).map(log)));
  const fan = {
    ...line,
    x: [x[1], 4 * x[1], 4 * x[1]],
    y: [last, last * 4 ** low, last * 4 ** high],
    fill: "toself",
    line: { width: 0 },
    fillcolor: colour("accent"),
    opacity: 0.25,
  };
  const middle = { ...line, x: [x[1], 4 * x[1]], y: [last, last * 4 ** limit], line: { ...line.line, dash: "dot" } };
  return [...traces, ...(known(low) && known(high) ? [fan] : []), middle];
}

function widthTicks() {
  const logs = content.widths.map(Math.log10);
  const ticks = content.widths.map((width, i) => [logs[i], widthText(width)]);
  return {
    type: "log",
    ...spacedTicks("scaling", ticks, Math.log10(4) + logs[logs.length - 1] - logs[0]),
    tickvals: content.widths,
  };
}

// Runs.

function drawRuns(layer, state) {
  if (!jobs) return show("cell-runs", make("p", {}, noRuns()));
  const turns = layer.orientations !== null;
  const columns = [
    "run",
    "m",
    "seed",
    `RD(${symbol(layer.name)})`,
    ...(turns ? ["orien\u00adtations"] : []),
    "loss: start",
    "end",
    "evalu\u00adations",
    "status",
  ];
  const rows = [...jobs.id.keys()]
    .sort((a, b) => widthOf(a) - widthOf(b) || jobs.seed[a] - jobs.seed[b])
    .map((job) => [
      jobButton(jobs.id[job], state),
      widthText(widthOf(job)),
      String(jobs.seed[job]),
      digits(jobs.change[layer.name][job]),
      ...(turns ? [digits(jobs.orientations[layer.name][job], 3)] : []),
      digits(jobs.loss_initial[job], 3),
      digits(jobs.loss_final[job], 3),
      String(jobs.evaluations[job]),
      statusCell(jobs, job),
    ]);
  return show(
    "cell-runs",
    rows.length ? makeTable(columns, rows, { words: ["status"] }) : make("p", {}, "No run at this point."),
  );
}

function jobButton(job, state) {
  return runButton(job, "run", () => update({ job }), { "aria-pressed": String(job === state.job) });
}

// The network that was kept.

function drawNetwork(layer, state) {
  const kept = content.networks.filter((network) => network.point === state.point);
  const network = kept[Math.min(state.network, kept.length - 1)];
  show("network-choice", ...(network ? networkChoice(kept, state) : placesOfNetworks()));
  byId("network").hidden = !network;
  byId("network-text").textContent = "";
  if (!network) return;
  const name = layer.name in network.layers ? layer.name : Object.keys(network.layers)[0];
  drawFunction(network);
  drawFeatures(network.layers[name], name);
  const evaluations = axis("evaluations", { rangemode: "tozero" });
  drawCourses("loss", { loss: [network.evaluations, network.loss] }, evaluations, "loss R");
  const changes = Object.entries(network.layers).map(([key, { change }]) => [symbol(key), [network.evaluations, change]]);
  drawCourses("course", Object.fromEntries(changes), evaluations, "relative change RD");
  drawDirections(network.layers[name].directions, name, network.onset);
}

/** How many directions the neurons have, against the time of the flow, with the predicted time of onset. */
function drawDirections(seen, name, onset) {
  if (!seen) return announce("directions", false);
  const { moments, orientations, clusters } = seen;
  const highest = Math.max(...orientations, ...clusters);
  const courses = { directions: [moments, orientations], clusters: [moments, clusters] };
  if (known(onset)) {
    courses["predicted onset"] = [
      [onset, onset],
      [1, highest],
    ];
  }
  const times = axis("time t of the flow", logAxis(moments.filter((time) => time > 0)));
  return drawCourses("directions", courses, times, `directions of ${symbol(name)}`);
}

function networkChoice(kept, state) {
  const text = ({ width, seed, status }) => `m = ${width}, seed ${seed}, ${status}`;
  if (kept.length === 1) return [make("p", {}, text(kept[0]))];
  const select = make("select", { "aria-label": "Network" });
  setOptions(
    select,
    kept.map((network, i) => [i, text(network)]),
    state.network,
  );
  select.addEventListener("change", () => update({ network: Number(select.value) }));
  return [select];
}

function placesOfNetworks() {
  if (!content.networks.length)
    return [make("p", {}, content.depth ? "None; [samples] in the spec chooses them." : "None: torch modules are not kept.")];
  const shown = [...new Set(content.networks.map((network) => network.point))];
  const buttons = shown.map((point) => make("button", { type: "button", onclick: () => choose(point) }, placeText(point)));
  return [make("p", {}, "None at this point. There is one at:"), make("div", { class: "controls" }, ...buttons)];
}

function drawFunction(network) {
  announce("function", network.x.length > 0, "The function of the network before and after training, with the data");
  if (!network.x.length) return;
  const curve = (name, y, tint, dash) => ({
    type: "scatter",
    mode: "lines",
    name,
    x: network.x,
    y,
    line: { color: tint, width: 2, dash },
  });
  const traces = [
    curve("before", network.f_initial, colour("third"), "dash"),
    curve("after", network.f_final, colour("accent"), "solid"),
  ];
  if (content.data) {
    traces.push({
      type: "scatter",
      mode: "markers",
      name: "data",
      x: content.data.x,
      y: content.data.y,
      marker: { color: colour("text"), size: 7 },
    });
  }
  draw("function", traces, { xaxis: axis("x"), yaxis: axis("f(x)"), showlegend: true, margin: { l: 52, r: 10, t: 34, b: 48 } });
}

function drawFeatures(neurons, name) {
  announce(
    "features",
    true,
    `Orientation and amplitude of ${plural(neurons.neurons, "neuron")} of ${symbol(name)}, before and after training`,
  );
  const cloud = (label, when, tint) => ({
    type: "scatter",
    mode: "markers",
    name: label,
    x: neurons.horizontal[when],
    y: neurons.amplitude[when],
    hoverinfo: "skip",
    marker: { color: tint, size: 4, opacity: 0.6 },
  });
  const amplitudes = neurons.amplitude.flat().filter((value) => value > 0);
  const wide = Math.max(...amplitudes) > 30 * Math.min(...amplitudes);
  const horizontal = neurons.planar
    ? axis("orientation θ", { range: [-3.3, 3.3], tickvals: [-Math.PI, 0, Math.PI], ticktext: ["−π", "0", "π"] })
    : axis("cosine with first principal direction", { range: [-1.05, 1.05] });
  draw("features", [cloud("before", 0, colour("third")), cloud("after", 1, colour("second"))], {
    xaxis: horizontal,
    yaxis: axis(`amplitude of ${symbol(name)}`, wide ? logAxis(amplitudes) : {}),
    showlegend: true,
    margin: { l: 56, r: 10, t: 34, b: 48 },
  });
  const shown = neurons.horizontal[1].length;
  if (shown < neurons.neurons) byId("network-text").textContent = `${shown} of ${neurons.neurons} neurons are shown.`;
}
