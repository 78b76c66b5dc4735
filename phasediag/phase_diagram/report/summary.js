// The maps in numbers: counts of regimes, distances of lines.

function drawSummary(state) {
  const chosen = content.layers[state.layer];
  const counts = content.layers.map(({ name }) => [
    symbol(name),
    ...regimes.map((regime) => String(content.regime_counts[name][regime])),
  ]);
  const one = chosenMeasure(state);
  byId("summary-text").textContent = one ? measureSummary(one) : summaryText(chosen, lineColumn(chosen, state.quantity));
  const parts = [
    make("div", { class: "scroll" }, makeTable(["layer", ...regimes], counts, { caption: "Points by measured regime" })),
  ];
  const rows = Object.entries(content.line_distances).flatMap(([name, columns]) =>
    Object.entries(columns).map(([column, of]) => [
      symbol(name),
      column === "slope" ? "over the widths" : "at m → ∞",
      decimals(of.mean),
      decimals(of.max),
      `${of.rows} of ${of.crossed}`,
    ]),
  );
  if (rows.length) {
    const caption = "Distance in γ of the measured critical line from the predicted one";
    parts.push(
      make("div", { class: "scroll" }, makeTable(["layer", "slope", "mean", "largest", "rows of γ′"], rows, { caption })),
    );
  }
  if (content.refinement) parts.push(make("div", { class: "scroll" }, refinementTable()));
  show("summary", ...parts);
}

/** How well refinement knows the lines of every layer, and why no better. */
function refinementTable() {
  const states = { reached: "in target", floor: "floor", limit: "limit", outside: "no line", open: "open" };
  const rows = Object.entries(content.refinement.lines).map(([name, line]) => [
    symbol(name),
    decimals(line.half_width_mean),
    decimals(line.half_width_max),
    ...Object.keys(states).map((state) => String(line.rows[state] || 0)),
  ]);
  const caption = `Refinement, ${plural(content.refinement.jobs, "job")}: half-width of the line’s 95 % band; rows of γ′ by state`;
  return makeTable(["layer", "mean", "largest", ...Object.values(states)], rows, { caption });
}

/** What the map of a layer shows, in a sentence or two; its line is the zero of a column. */
function summaryText(layer, column) {
  const counts = content.regime_counts[layer.name];
  const total = regimes.reduce((sum, regime) => sum + counts[regime], 0);
  const parts = regimes.filter((regime) => counts[regime]).map((regime) => `${counts[regime]} ${regime}`);
  const first = `${symbol(layer.name)}: of ${plural(total, "point")}, ${parts.join(", ") || "none has a slope"}.`;
  if (!content.depth) return first; // nothing is predicted of torch modules
  const distance = (content.line_distances[layer.name] || {})[column];
  if (!distance || !distance.rows) return `${first} The measured line crosses no row of the map where one is predicted.`;
  const shown = QUANTITIES[column].name;
  return `${first} The measured critical line (${shown}) is ${decimals(distance.mean)} in γ from the predicted one in the mean, ${decimals(distance.max)} at most.`;
}
