// What the page says besides the map: counts of regimes, distances of lines, failures, where it all comes from.

function drawHead() {
  const { name, depth, folder } = content.study;
  byId("title").textContent = name;
  const where = `${["two", "three", "four", "five", "six", "seven", "eight"][depth - 2]} layers`;
  const size = [plural(points.gamma.length, "point"), plural(content.widths.length, "width"), plural(jobs.id.length, "run")];
  byId("subtitle").textContent = `Phase diagram, ${where}: ${size.join(", ")} · ${folder}`;
  show("notes", ...content.notes.map((text) => make("li", {}, text)));
  byId("notes").hidden = !content.notes.length;
  byId("study").textContent = content.study.text;
}

function drawSummary(state) {
  const chosen = content.layers[state.layer];
  const counts = content.layers.map(({ name }) => [
    symbol(name),
    ...regimes.map((regime) => String(content.regime_counts[name][regime])),
  ]);
  byId("summary-text").textContent = summaryText(chosen);
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

/** What the map of a layer shows, in a sentence or two. */
function summaryText(layer) {
  const counts = content.regime_counts[layer.name];
  const total = regimes.reduce((sum, regime) => sum + counts[regime], 0);
  const parts = regimes.filter((regime) => counts[regime]).map((regime) => `${counts[regime]} ${regime}`);
  const first = `${symbol(layer.name)}: of ${plural(total, "point")}, ${parts.join(", ") || "none has a slope"}.`;
  const distance = (content.line_distances[layer.name] || {})[layer.deciding];
  if (!distance || !distance.rows) return `${first} The measured line crosses no row of the map where one is predicted.`;
  const limit = layer.deciding === "slope" ? "" : " at infinite width";
  return `${first} The measured critical line${limit} is ${decimals(distance.mean)} in γ from the predicted one in the mean, ${decimals(distance.max)} at most.`;
}

function drawFailures() {
  const { total, counts, reasons, more_reasons: more, jobs: listed } = content.failures;
  for (const id of ["failures-section", "summary-section"]) byId(id).hidden = !jobs.id.length;
  if (!total) return show("failures", make("p", {}, `None: all ${plural(jobs.id.length, "run")} converged.`));
  const parts = [
    make(
      "p",
      {},
      `${total} of ${plural(jobs.id.length, "run")}: ` +
        Object.entries(counts)
          .map(([status, count]) => `${count} ${status}`)
          .join(", ") +
        ".",
    ),
  ];
  if (reasons.length) {
    const table = makeTable(
      ["runs", "error"],
      reasons.map(([count, text]) => [String(count), text]),
      { words: ["error"], caption: "Why runs failed" },
    );
    parts.push(
      make("div", { class: "scroll" }, table),
      make("p", { class: "help" }, more ? `${plural(more, "other error")}: column error of runs/.` : ""),
    );
  }
  const rows = listed.map((job) => {
    const [gamma, prime] = at(jobs.point[job]);
    const go = () => {
      choose(jobs.point[job], { job });
      byId("cell-title").focus();
    };
    const button = make(
      "button",
      { type: "button", "aria-label": `show run ${jobs.id[job]}`, onclick: go },
      jobs.id[job].slice(0, 8),
    );
    return [button, exponent(gamma), exponent(prime), widthText(widthOf(job)), String(jobs.seed[job]), statusCell(job)];
  });
  const caption = listed.length < total ? `The first ${listed.length} of ${total}` : "";
  const table = makeTable(["run", "γ", "γ′", "m", "seed", "status"], rows, { words: ["status"], caption });
  parts.push(
    make("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Runs that did not converge" }, table),
  );
  return show("failures", ...parts);
}

function drawOrigin() {
  const { origin, progress } = content;
  const sweep = progress
    ? `${progress.state}: ${progress.finished} of ${plural(progress.total, "job")} finished, ${progress.failed} failed, ${progress.missing} missing`
    : "";
  const driver = origin.started
    ? `from ${origin.started} to ${origin.heartbeat || "?"} (the last driver; ${origin.driver})`
    : "not recorded";
  const devices = Object.entries(origin.devices)
    .map(([device, count]) => `${device} (${plural(count, "run")})`)
    .join(", ");
  const facts = {
    folder: content.study.folder,
    sweep,
    "date of the sweep": driver,
    "trained by": origin.versions.map((one) => `phasediag ${one}`).join(", "),
    devices,
    "time of training": jobs.id.length ? `${origin.training}, summed over the runs` : "",
    "this page": `phasediag ${origin.report_version}, ${origin.report_date}`,
  };
  const shown = Object.entries(facts).filter(([, text]) => text);
  show("origin", ...shown.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
}
