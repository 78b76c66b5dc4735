// What is left against the rate, and the run of each.

function render() {
  announce("left", true, "What is left against the rate");
  draw("left", [{ type: "scatter", mode: "markers", x: content.rates, y: content.left }], { xaxis: axis("rate"), yaxis: axis("left") });
  const rows = jobs ? jobs.id.map((id, job) => [digits(jobs.rate[job]), statusCell(jobs, job)]) : [];
  show("rates", makeTable(["rate", "status"], rows, { words: ["status"] }));
}

function again() {
  takeRuns("all", again);
  render();
}

setKind({
  subtitle: () => plural(content.runs, "rate"),
  failed: { columns: [], cells: () => [], see: () => {} },
  cell: () => "all",
  receive: () => {},
  begin: again,
  again,
  render,
});
