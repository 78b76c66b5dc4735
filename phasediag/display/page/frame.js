// What every page has around the part of its kind: title, notes, failures, spec, origin; the theme, copying, printing, the address.

let content = null; // what the page shows, without single runs
let jobs = null; // the runs of the selected cell, column by column; null where they are not there
let kind = null; // how the part of the kind is drawn
let begun = false;
// On a page that a server keeps up to date:
let askRuns = null; // promises the runs of a cell
let tell = () => {}; // takes the view whenever it has changed

/**
 * Says how the part of a kind is drawn.
 *
 * @param parts `subtitle()`, in words; `failed`, see drawFailures; `cell()`, the name of the selected one; `receive()`, which takes over a
 *     new content; `begin()`, which shows the first view and connects what changes it; `again()`, which shows the present view;
 *     `render()`, which draws all that depends on the view or on the theme; for pages of several studies: `plot`, whose pointer they share;
 *     if it has colours, `scale()`, their key and ends, or null, and `share(scale)`, which takes those of all
 */
function setKind(parts) {
  kind = parts;
}

/** Shows a content: the first, or a newer one in the place of the last, with the view as it is. */
function start(next) {
  if (content === null) wireTheme(() => begun && kind.render());
  content = next;
  const there = content.runs > 0;
  if (there) kind.receive();
  drawHead();
  drawEvents();
  drawOrigin();
  document.querySelectorAll(".of-runs").forEach((part) => (part.hidden = !there));
  if (!there) return;
  drawFailures(kind.failed);
  if (begun) kind.again();
  else kind.begin();
  begun = true;
}

/** Has the runs of cells come from a server, and a function called with every view. */
function connect(ask, seen) {
  askRuns = ask;
  tell = seen;
}

/** Shows a newer content. The runs of the selected cell come first, so that they do not vanish in between. */
async function renew(next) {
  if (begun) next.runs_of[kind.cell()] = await askRuns(kind.cell());
  start(next);
}

/** Makes the runs of a cell `jobs`. Where they come from a server, `again` is called when they are there. */
function takeRuns(cell, again) {
  const asked = content;
  if (askRuns && !(cell in asked.runs_of)) {
    asked.runs_of[cell] = null;
    askRuns(cell).then(
      (runs) => {
        asked.runs_of[cell] = runs;
        if (asked === content) again();
      },
      () => delete asked.runs_of[cell], // The next view asks again.
    );
  }
  jobs = asked.runs_of[cell] ?? null;
}

/** Why there are no runs to be seen here. */
const noRuns = () =>
  askRuns ? "…" : `The page holds no single runs, since there are ${content.runs}: 'phasediag serve' shows them.`;

/** Light and dark, as the screen or the button says. On paper the page is light. */
function wireTheme(render) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const other = () => ((root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark" ? "light" : "dark");
  const label = () => (byId("theme").textContent = other() === "light" ? "Light" : "Dark");
  const set = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    label();
    render();
  };
  let before;
  label();
  byId("theme").addEventListener("click", () => set(other()));
  dark.addEventListener("change", () => set(root.dataset.theme));
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    set("light");
  });
  addEventListener("afterprint", () => set(before));
}

/** Keeps a view in the address. */
function keep(view) {
  history.replaceState(null, "", "#" + new URLSearchParams(view));
  queueMicrotask(() => tell(view)); // once it is drawn
}

function drawHead() {
  const { name, folder, text } = content.study;
  byId("title").textContent = name;
  byId("subtitle").textContent = content.runs ? `${kind.subtitle()} · ${folder}` : folder;
  const notes = [...missingText(), ...content.notes];
  show("notes", ...notes.map((text) => make("li", {}, text)));
  byId("notes").hidden = !notes.length;
  show("spec", codeBlock("study", text));
}

/** How many jobs are missing; a server tells that above the page. */
function missingText() {
  const { state, missing, total } = content.progress ?? {};
  return missing && !askRuns ? [`${missing} of ${plural(total, "job")} have no rows yet; the sweep is ${state}.`] : [];
}

// Runs.

/** How a run of these ended. */
function statusCell(runs, job) {
  const status = content.statuses[runs.status[job]],
    error = runs.error[job];
  return error ? make("div", { class: "error" }, `${status}: ${error}`) : status;
}

/** A button with the beginning of the id of a run. */
function runButton(id, label, onclick, attributes = {}) {
  return make("button", { type: "button", "aria-label": `${label} ${id}`, onclick, ...attributes }, id.slice(0, 8));
}

/** The runs that did not converge; `columns` and `cells` tell them apart, `see` shows the one of this number among them. */
function drawFailures({ columns, cells, see }) {
  const { total, counts, reasons, more_reasons: more, listed } = content.failures;
  if (!total) return show("failures", make("p", {}, `None: all ${plural(content.runs, "run")} converged.`));
  const parts = [
    make(
      "p",
      {},
      `${total} of ${plural(content.runs, "run")}: ` +
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
  const rows = listed.id.map((id, job) => [runButton(id, "show run", () => see(job)), ...cells(job), statusCell(listed, job)]);
  const caption = rows.length < total ? `The first ${rows.length} of ${total}` : "";
  const table = makeTable(["run", ...columns, "status"], rows, { words: ["status"], caption });
  parts.push(
    make("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Runs that did not converge" }, table),
  );
  return show("failures", ...parts);
}

// Code.

/** Code with a button that copies it. */
function codeBlock(id, text) {
  const block = make("pre", { id, tabindex: "0" }, text);
  const status = make("p", { class: "help", role: "status" });
  const button = make("button", { type: "button", "data-copy": id, onclick: () => copy(block, status) }, "Copy");
  return make("div", { class: "code" }, block, button, status);
}

/** How to read the rows of runs with these values, and how to train a run of them again, by its id. */
function drawFiles(values, columns, job) {
  const again = job === null ? "no run here" : `${content.code.reproduce} ${job}`;
  show(
    "files",
    make("h3", {}, "From the files"),
    codeBlock("rows-code", rowsCode(values, columns)),
    make("p", { class: "help" }, "Train one of these runs again, and compare it with its row; choose the run in the table:"),
    codeBlock("job-code", again),
  );
}

function rowsCode(values, columns) {
  const conditions = Object.entries(values).map(([name, value]) => `(runs["${name}"] == ${JSON.stringify(value)})`);
  return [
    "import pandas as pd",
    "",
    `runs = pd.read_parquet(${content.code.runs})`,
    `rows = runs[${conditions.join(" & ")}]`,
    `print(rows[[${columns.map((name) => `"${name}"`).join(", ")}]].to_string())`,
  ].join("\n");
}

async function copy(block, status) {
  getSelection().selectAllChildren(block);
  try {
    await navigator.clipboard.writeText(block.textContent);
    status.textContent = "Copied.";
  } catch {
    status.textContent = "Selected: copy it with the keyboard.";
  }
}

// Where it comes from.

/** The last events of the sweep, the newest first. */
function drawEvents() {
  const { events } = content;
  byId("log").hidden = !events.length;
  const table = makeTable(["time", "event"], [...events].reverse(), { words: ["event"] });
  show("events", make("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Log" }, table));
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
    "time of training": content.runs ? `${origin.training}, summed over the runs` : "",
    "this page": `phasediag ${origin.report_version}, ${origin.report_date}`,
  };
  const shown = Object.entries(facts).filter(([, text]) => text);
  show("origin", ...shown.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
}
